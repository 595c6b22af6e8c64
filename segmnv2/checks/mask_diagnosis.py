"""Diagnosis of one mask: its ids as training reads them, and the faults of its values."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from segmnv2.checks.mask_repairs import HALF, nearest_classes, nearest_ids
from segmnv2.data.mask_file import MaskError, mask_ids
from segmnv2.data.raw_mask import NO_COLOR, RawMask, pack_colors, unpack_colors
from segmnv2.data.sample import Mask
from segmnv2.labels import LabelSet

NEAR_SHARE = 0.8
"""Share of a smoothed mask's pixels that must be near a class's color, or near black or white."""

CAUSE = "the mask was smoothed when drawn or scaled, or was saved as JPEG"

SMOOTH = "draw and scale masks without antialiasing (nearest neighbor), and save them as PNG"


@dataclass(frozen=True)
class Fault:
    """A finding without file and split; see :class:`segmnv2.datasets.listing.Finding`."""

    kind: str
    reason: str
    remedy: str
    repair: str | None = None


@dataclass(frozen=True)
class Diagnosis:
    """Diagnosis of one mask.

    Attributes:
        ids: uint8 (H, W) ids as training reads them, or after the repairs; some may be ids of no class. ``None`` if
            they are unknown.
        faults: all faults. If none is an error, training reads the mask as ``ids``.
    """

    ids: Mask | None
    faults: tuple[Fault, ...] = ()


STRAY_GRAYS = 3
"""Smallest number of different values between their neighbors' values that shows smoothing."""

MIDDLE_GRAYS = 5
"""Smallest number of different gray values that shows smoothing, if none of them fills a region."""

GRAY_TOLERANCE = 32
"""Largest distance from black or white of a gray value that counts as near it."""

BETWEEN_SHARE = 0.05
"""Smallest share of border pixels with a value between their neighbors' values that shows smoothing.

A correct mask has such pixels only where three classes meet: at most 0.002 in the masks of PASCAL VOC and SBD. After
these are scaled with interpolation, the share is 0.04 to 0.3.
"""

BETWEEN_LEAST = 0.9
"""Smallest share of gray pixels between their neighbors' values in a smoothed black and white mask."""

INSIDE_SHARE = 0.001
"""Smallest share of pixels inside regions of one gray value that shows that the value was drawn, not smoothed."""


def diagnose_valid_ids(ids: Mask, palette: np.ndarray | None, labels: LabelSet) -> Diagnosis:
    """Return the diagnosis of ids that training accepts."""
    faults = []
    present = np.flatnonzero(np.bincount(ids.ravel()))
    if palette is not None and "palette" not in labels.label_defaults:
        faults += _palette_differs(palette, present[present < labels.num_classes], labels)
    if set(present.tolist()) == {labels.ignore_index}:
        reason = f"all {ids.size} pixels are {labels.ignore_index}, which is ignored"
        faults.append(Fault("all-ignored", reason, "draw the mask, or remove the pair"))
    smoothed = _smoothed_borders(ids)
    if smoothed:
        faults.insert(0, Fault("smoothed-ids", smoothed, SMOOTH))
    return Diagnosis(ids, tuple(faults))


def diagnose_strange_ids(fault: Fault, values: Mask, labels: LabelSet) -> Diagnosis:
    """Return the diagnosis of values that include ids of no class: smoothed values, or ids of other labels."""
    if _is_smoothed_black_and_white(values):
        reason = f"is black and white with {len(np.unique(values)) - 2} gray values between: {CAUSE}"
        white_is_one = labels.num_classes == 2 and labels.palette[0] != (255,) * 3 and labels.palette[1] != (0,) * 3
        smoothed = Fault("interpolated-mask", reason, SMOOTH, "threshold" if white_is_one else None)
        return Diagnosis((values >= HALF).astype(np.uint8) if smoothed.repair else None, (smoothed,))
    reason = _smoothed_borders(values)
    if reason:
        return Diagnosis(None, (replace(fault, kind="interpolated-mask", reason=reason, remedy=SMOOTH),))
    return Diagnosis(values, (fault,))


def neighborhood(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and the largest value in the 3 x 3 neighborhood of each pixel, uint8 (H, W) or (H, W, C)."""
    kernel = np.ones((3, 3), np.uint8)
    return cv2.erode(values, kernel), cv2.dilate(values, kernel)


def _is_smoothed_black_and_white(values: Mask) -> bool:
    """Return whether gray values must come from smoothing: there are many different ones, and none fills a region."""
    low, high = neighborhood(values)
    # JPEG changes white a little inside regions, to values larger than any class id.
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
    """Return a message with the share of border pixels between their neighbors' ids; empty if not smoothed.

    A class drawn as a line between two others may also have an id between theirs, but always the same one. Smoothing
    gives several ids. So for each pair of neighbors, the most frequent id between them is not counted.
    """
    low, high = neighborhood(values)
    between = (low < values) & (values < high)
    kinds, counts = np.unique(
        low[between].astype(np.int64) << 16 | high[between].astype(np.int64) << 8 | values[between], return_counts=True
    )
    if len(kinds) < STRAY_GRAYS:
        return ""
    pairs, pair_of_kind = np.unique(kinds >> 8, return_inverse=True)
    most_frequent = np.zeros(len(pairs), np.int64)
    np.maximum.at(most_frequent, pair_of_kind, counts)
    share = (counts.sum() - most_frequent.sum()) / max(1, int((low != high).sum()))
    levels = len(np.unique(values[between]))
    if levels < STRAY_GRAYS or share < BETWEEN_SHARE:
        return ""
    return f"{share:.0%} of the border pixels have one of {levels} values between their neighbors' ids: {CAUSE}"


def _palette_differs(palette: np.ndarray, ids: np.ndarray, labels: LabelSet) -> list[Fault]:
    """Compare the colors of the ids that occur with those of the classes."""
    ids = ids[palette[ids, 0] != NO_COLOR]
    if (palette[ids, :1] == palette[ids]).all():  # a gray palette is a default of encoders
        return []
    expected = np.array(labels.palette, int)
    differing = ids[(palette[ids] != expected[ids]).any(axis=1)]
    if not len(differing):
        return []
    first = int(differing[0])
    reason = (
        f"id {first} ('{labels.names[first]}') has the color {palette[first].tolist()} instead of "
        f"{expected[first].tolist()}: training reads the ids and ignores their colors"
    )
    remedy = "check that the ids are those of the labels; if so, save the mask with their palette, or keep it"
    return [Fault("palette-differs", reason, remedy, "resave")]


STRAY_COLORS = 8
"""Largest number of colors of no class that a wrong palette may have; more come from smoothing."""

_ROUNDING = 8.0
"""Largest RGB distance by which JPEG changes a color inside a region."""


def diagnose_mask(raw: RawMask, labels: LabelSet) -> Diagnosis:
    """Return the ids and the faults of a mask."""
    try:
        ids = mask_ids(raw, labels)
        result = diagnose_valid_ids(ids, raw.palette if ids is raw.values else None, labels)
    except MaskError as error:
        result = _diagnose_error(error, raw, labels)
    if raw.animated:
        remedy = "save only the required frame as PNG; the first one is read"
        result = Diagnosis(result.ids, (*result.faults, Fault("animated", "has several frames or pages", remedy)))
    return result


def _diagnose_error(error: MaskError, raw: RawMask, labels: LabelSet) -> Diagnosis:
    """Return the diagnosis of a mask that training refuses, with a repair if one is certain."""
    fault = Fault(error.kind, error.reason, error.remedy)
    if error.kind == "jpeg-mask":
        inner = diagnose_mask(replace(raw, format="PNG"), labels)
        repair = _together(inner.faults)
        if not {"nearest", "threshold", "binary"} & {*(repair or "").split("+")}:
            repair = None  # the changes of ids by the compression are unknown
        reason = f"is compressed as {raw.format}: {inner.faults[0].reason}" if inner.faults else fault.reason
        return Diagnosis(inner.ids, (replace(fault, reason=reason, repair=repair),))
    if error.kind == "mask-format" and raw.format != "GIF":  # GIF encoders renumber the colors
        inner = diagnose_mask(replace(raw, format="PNG"), labels)
        unrepaired = tuple(fault for fault in inner.faults if fault.repair is None)
        repair = None if inner.ids is None or unrepaired else _together(inner.faults) or "resave"
        return Diagnosis(inner.ids, (replace(fault, repair=repair), *unrepaired))
    values = raw.values
    if error.kind == "deep-mask" and not raw.changed:
        low, high = values.min(), values.max()
        if values.dtype.kind == "f" or low < 0 or not (high <= 255 or set(np.unique(values)) <= {0, 65535}):
            return Diagnosis(None, (fault,))
        narrow = (values if high <= 255 else values // 257).astype(np.uint8)
        inner = diagnose_mask(RawMask(narrow, "PNG"), labels)
        return Diagnosis(inner.ids, (replace(fault, repair="depth"), *inner.faults))
    if error.kind in ("rgb-mask", "unknown-colors") and (values[..., :1] == values[..., 1:3]).all():
        inner = diagnose_mask(RawMask(np.ascontiguousarray(values[..., 0]), "PNG"), labels)
        reason = "is RGB with three equal channels: gray values saved as colors"
        channel = Fault("rgb-mask", reason, "save one channel as 8-bit gray PNG", "channel")
        return Diagnosis(inner.ids, (channel, *inner.faults))
    if error.kind == "unknown-colors":
        return _diagnose_strange_colors(fault, values[..., :3], labels)
    if error.kind == "ids-out-of-range":
        return diagnose_strange_ids(fault, values, labels)
    if error.kind == "binary-masks":
        return Diagnosis(values, (replace(fault, repair="binary" if labels.num_classes == 2 else None),))
    return Diagnosis(None, (fault,))


def _together(faults: tuple[Fault, ...]) -> str | None:
    """Return the repairs of several faults as one text, or ``None`` if a fault has no repair."""
    repairs = [fault.repair for fault in faults if fault.repair]
    return "+".join(repairs) if len(repairs) == len(faults) and repairs else None


def _diagnose_strange_colors(fault: Fault, colors: np.ndarray, labels: LabelSet) -> Diagnosis:
    numbers, index, counts = np.unique(pack_colors(colors), return_inverse=True, return_counts=True)
    index = index.reshape(colors.shape[:2])
    palette = unpack_colors(numbers)
    known = np.array([*labels.palette, labels.void_color or labels.palette[0]])
    distances = np.linalg.norm(palette[:, None].astype(np.float32) - known[None], axis=2).min(axis=1)
    near = nearest_classes(palette, labels)[1]
    share = counts[near].sum() / counts.sum()
    low, high = neighborhood(colors)
    inside = (low == high).all(axis=2) & (distances > _ROUNDING)[index]  # regions drawn in a color of no class
    ambiguous = len(set(labels.palette)) < labels.num_classes  # two classes have the same color
    if ambiguous or (distances > 0).sum() <= STRAY_COLORS or share < NEAR_SHARE or inside.mean() >= INSIDE_SHARE:
        return Diagnosis(None, (fault,))
    reason = (
        f"has {(distances > 0).sum()} colors between those of the classes ({1 - share:.1%} of the pixels near none)"
    )
    result = nearest_ids(colors, labels)
    return Diagnosis(result, (Fault("interpolated-mask", f"{reason}: {CAUSE}", SMOOTH, "nearest"),))
