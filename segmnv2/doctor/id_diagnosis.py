"""Faults of one mask's values as ids: smoothed borders, and colors that are not the labels'."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from segmnv2.data.raw_mask import NO_COLOR
from segmnv2.data.sample import Mask
from segmnv2.doctor.diagnosis import CAUSE, NEAR_SHARE, SMOOTH, Diagnosis, Fault
from segmnv2.doctor.repair import HALF
from segmnv2.labels import LabelSet

STRAY_GRAYS = 3
"""As many ids between those of their neighbors come from smoothing."""

MIDDLE_GRAYS = 5
"""As many gray values above near black come from smoothing, where none fills a region."""

GRAY_TOLERANCE = 32
"""Largest distance of a gray value that counts as near black or white."""

BETWEEN_SHARE = 0.05
"""Share of border pixels strictly between their neighbors, from which on a mask counts as smoothed.

In a sound mask only places where three classes meet are so: at most 0.002 in PASCAL VOC's and SBD's masks, where
scaling with interpolation makes it 0.04 to 0.3.
"""

BETWEEN_LEAST = 0.9
"""Share of gray pixels that must lie between their neighbors in a smoothed black and white mask."""

INSIDE_SHARE = 0.001
"""Share of pixels inside regions of one value from which on that value was drawn, and does not come from smoothing."""


def diagnose_valid_ids(ids: Mask, palette: np.ndarray | None, labels: LabelSet) -> Diagnosis:
    """Judge ids that training takes."""
    faults = []
    present = np.flatnonzero(np.bincount(ids.ravel()))
    if palette is not None and "palette" not in labels.label_defaults:
        faults += _palette_differs(palette, present[present < labels.num_classes], labels)
    if set(present.tolist()) == {labels.ignore_index}:
        reason = f"all {ids.size} pixels are {labels.ignore_index}, ignored"
        faults.append(Fault("all-ignored", reason, "draw the mask, or take the pair out"))
    smoothed = _smoothed_borders(ids)
    if smoothed:
        faults.insert(0, Fault("smoothed-ids", smoothed, SMOOTH))
    return Diagnosis(ids, tuple(faults))


def diagnose_strange_ids(fault: Fault, values: Mask, labels: LabelSet) -> Diagnosis:
    """Judge values of which some are no ids: smoothed ones, or those of other labels."""
    if _is_smoothed_black_and_white(values):
        reason = f"black and white with {len(np.unique(values)) - 2} gray values between: {CAUSE}"
        white_is_one = labels.num_classes == 2 and labels.palette[0] != (255,) * 3 and labels.palette[1] != (0,) * 3
        smoothed = Fault("interpolated-mask", reason, SMOOTH, "threshold" if white_is_one else None)
        return Diagnosis((values >= HALF).astype(np.uint8) if smoothed.repair else None, (smoothed,))
    reason = _smoothed_borders(values)
    if reason:
        return Diagnosis(None, (replace(fault, kind="interpolated-mask", reason=reason, remedy=SMOOTH),))
    return Diagnosis(values, (fault,))


def neighborhood(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and the largest value of each pixel's 3 x 3 neighborhood, uint8 (H, W) or (H, W, C)."""
    kernel = np.ones((3, 3), np.uint8)
    return cv2.erode(values, kernel), cv2.dilate(values, kernel)


def _is_smoothed_black_and_white(values: Mask) -> bool:
    """Return whether gray values can only come from smoothing: of all kinds, and nowhere inside a region."""
    low, high = neighborhood(values)
    # White varies a little inside regions of a JPEG; ids of classes are smaller.
    inside = (low == high) & (values > 0) & (values < 255 - GRAY_TOLERANCE // 2)
    middle = (values > GRAY_TOLERANCE) & (values < 255 - GRAY_TOLERANCE)
    between = (low < values) & (values < high)
    counts = np.bincount(values.ravel(), minlength=256)
    black, white = counts[: GRAY_TOLERANCE + 1].sum(), counts[255 - GRAY_TOLERANCE :].sum()
    return bool(
        (counts[GRAY_TOLERANCE + 1 : 255] > 0).sum() >= MIDDLE_GRAYS
        and white
        and black + white >= NEAR_SHARE * values.size
        and inside.mean() < INSIDE_SHARE
        and (between & middle).sum() >= BETWEEN_LEAST * middle.sum()
    )


def _smoothed_borders(values: Mask) -> str:
    """Return how many pixels along borders lie between their neighbors, where so many come from smoothing.

    A class that is drawn as a line between two others is between them, too, but always with the same id; smoothing two
    ids gives several between them. Of each two ids the commonest one between is not counted.
    """
    low, high = neighborhood(values)
    between = (low < values) & (values < high)
    kinds, counts = np.unique(
        low[between].astype(np.int64) << 16 | high[between].astype(np.int64) << 8 | values[between], return_counts=True
    )
    if len(kinds) < STRAY_GRAYS:
        return ""
    pairs, place = np.unique(kinds >> 8, return_inverse=True)
    commonest = np.zeros(len(pairs), np.int64)
    np.maximum.at(commonest, place, counts)
    share = (counts.sum() - commonest.sum()) / max(1, int((low != high).sum()))
    levels = len(np.unique(values[between]))
    if levels < STRAY_GRAYS or share < BETWEEN_SHARE:
        return ""
    return f"{share:.0%} of the pixels along borders, of {levels} values, lie between their neighbors' ids: {CAUSE}"


def _palette_differs(palette: np.ndarray, ids: np.ndarray, labels: LabelSet) -> list[Fault]:
    """Compare the colors of the ids that occur with those of the classes."""
    ids = ids[palette[ids, 0] != NO_COLOR]
    if (palette[ids, :1] == palette[ids]).all():  # black, white and gray are nobody's choice
        return []
    wanted = np.array(labels.palette, int)
    differing = ids[(palette[ids] != wanted[ids]).any(axis=1)]
    if not len(differing):
        return []
    first = int(differing[0])
    reason = (
        f"id {first} ('{labels.names[first]}') has the color {palette[first].tolist()} in place of "
        f"{wanted[first].tolist()}: training takes the ids, whatever their colors"
    )
    remedy = "look whether the ids are those of the labels; if so, save it with their palette, or leave it"
    return [Fault("palette-differs", reason, remedy, "resave")]
