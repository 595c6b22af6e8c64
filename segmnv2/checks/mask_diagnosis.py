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

CAUSE = "smoothed when drawn or scaled, or once saved as JPEG"

SMOOTH = "draw and scale masks without antialiasing (nearest neighbor), save them as PNG"


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
        ids: uint8 (H, W) ids as training reads them, or as they are after the repairs; some may be ids of no class.
            ``None`` if they are unknown.
        faults: all faults; if none of them is an error, training reads the mask as ``ids``.
    """

    ids: Mask | None
    faults: tuple[Fault, ...] = ()


STRAY_GRAYS = 3
"""Number of different ids between their neighbors' ids from which on they come from smoothing."""

MIDDLE_GRAYS = 5
"""Number of different gray values above near black from which on they come from smoothing, if none fills a region."""

GRAY_TOLERANCE = 32
"""Largest distance from black or white of a gray value that counts as near it."""

BETWEEN_SHARE = 0.05
"""Share of border pixels with a value strictly between their neighbors', from which on a mask counts as smoothed.

In a correct mask only places where three classes meet have such pixels: at most 0.002 in PASCAL VOC's and SBD's masks.
After scaling these with interpolation it is 0.04 to 0.3.
"""

BETWEEN_LEAST = 0.9
"""Share of gray pixels that must lie between their neighbors in a smoothed black and white mask."""

INSIDE_SHARE = 0.001
"""Share of pixels inside regions of one value from which on the value was drawn and does not come from smoothing."""


def diagnose_valid_ids(ids: Mask, palette: np.ndarray | None, labels: LabelSet) -> Diagnosis:
    """Return the diagnosis of ids that training accepts."""
    faults = []
    present = np.flatnonzero(np.bincount(ids.ravel()))
    if palette is not None and "palette" not in labels.label_defaults:
        faults += _palette_differs(palette, present[present < labels.num_classes], labels)
    if set(present.tolist()) == {labels.ignore_index}:
        reason = f"all {ids.size} pixels are {labels.ignore_index}, ignored"
        faults.append(Fault("all-ignored", reason, "draw the mask, or remove the pair"))
    smoothed = _smoothed_borders(ids)
    if smoothed:
        faults.insert(0, Fault("smoothed-ids", smoothed, SMOOTH))
    return Diagnosis(ids, tuple(faults))


def diagnose_strange_ids(fault: Fault, values: Mask, labels: LabelSet) -> Diagnosis:
    """Return the diagnosis of values of which some are no ids: smoothed values, or ids of other labels."""
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
    """Return whether gray values can only come from smoothing: many different ones, and none fills a region."""
    low, high = neighborhood(values)
    # JPEG changes white a little inside regions; ids of classes are smaller than such values.
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
    """Return a message with the share of border pixels that lie between their neighbors' ids; empty if not smoothed.

    A class that is drawn as a line between two others is also between them, but always has the same id. Smoothing gives
    several ids between the two. So for each pair of ids, the most frequent id between them is not counted.
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
    if (palette[ids, :1] == palette[ids]).all():  # a palette of grays is a default and not a choice
        return []
    wanted = np.array(labels.palette, int)
    differing = ids[(palette[ids] != wanted[ids]).any(axis=1)]
    if not len(differing):
        return []
    first = int(differing[0])
    reason = (
        f"id {first} ('{labels.names[first]}') has the color {palette[first].tolist()} in place of "
        f"{wanted[first].tolist()}: training reads the ids and ignores their colors"
    )
    remedy = "check that the ids are those of the labels; if so, save it with their palette, or keep it"
    return [Fault("palette-differs", reason, remedy, "resave")]


STRAY_COLORS = 8
"""Largest number of colors of no class that a wrong palette explains; more come from smoothing."""

_ROUNDING = 8.0
"""Largest distance in RGB by which JPEG changes a color inside a region."""


def diagnose_mask(raw: RawMask, labels: LabelSet) -> Diagnosis:
    """Return what a mask holds, and what is wrong with it."""
    try:
        ids = mask_ids(raw, labels)
        result = diagnose_valid_ids(ids, raw.palette if ids is raw.values else None, labels)
    except MaskError as error:
        result = _diagnose_error(error, raw, labels)
    if raw.animated:
        remedy = "save only the frame that you need as PNG; the first one is read"
        result = Diagnosis(result.ids, (*result.faults, Fault("animated", "has several frames or pages", remedy)))
    return result


def _diagnose_error(error: MaskError, raw: RawMask, labels: LabelSet) -> Diagnosis:
    """Return the diagnosis of a mask that training refuses, with a repair if there is a certain one."""
    fault = Fault(error.kind, error.reason, error.remedy)
    if error.kind == "jpeg-mask":
        found = diagnose_mask(replace(raw, format="PNG"), labels)
        repair = _together(found.faults)
        if not {"nearest", "threshold", "binary"} & {*(repair or "").split("+")}:
            repair = None  # nothing shows how compression changed ids
        reason = f"is compressed as {raw.format}: {found.faults[0].reason}" if found.faults else fault.reason
        return Diagnosis(found.ids, (replace(fault, reason=reason, repair=repair),))
    if error.kind == "mask-format" and raw.format != "GIF":  # whose writers renumber the colors
        found = diagnose_mask(replace(raw, format="PNG"), labels)
        unrepaired = tuple(fault for fault in found.faults if fault.repair is None)
        repair = None if found.ids is None or unrepaired else _together(found.faults) or "resave"
        return Diagnosis(found.ids, (replace(fault, repair=repair), *unrepaired))
    values = raw.values
    if error.kind == "deep-mask" and not raw.changed:
        low, high = values.min(), values.max()
        if values.dtype.kind == "f" or low < 0 or not (high <= 255 or set(np.unique(values)) <= {0, 65535}):
            return Diagnosis(None, (fault,))
        narrow = (values if high <= 255 else values // 257).astype(np.uint8)
        found = diagnose_mask(RawMask(narrow, "PNG"), labels)
        return Diagnosis(found.ids, (replace(fault, repair="depth"), *found.faults))
    if error.kind in ("rgb-mask", "unknown-colors") and (values[..., :1] == values[..., 1:3]).all():
        found = diagnose_mask(RawMask(np.ascontiguousarray(values[..., 0]), "PNG"), labels)
        reason = "is RGB with three equal channels: gray values saved as colors"
        channel = Fault("rgb-mask", reason, "save one channel as 8-bit gray PNG", "channel")
        return Diagnosis(found.ids, (channel, *found.faults))
    if error.kind == "unknown-colors":
        return _diagnose_strange_colors(fault, values[..., :3], labels)
    if error.kind == "ids-out-of-range":
        return diagnose_strange_ids(fault, values, labels)
    if error.kind == "binary-masks":
        return Diagnosis(values, (replace(fault, repair="binary" if labels.num_classes == 2 else None),))
    return Diagnosis(None, (fault,))


def _together(faults: tuple[Fault, ...]) -> str | None:
    """Return the repairs of several faults as one text; ``None`` if a fault has no repair."""
    repairs = [fault.repair for fault in faults if fault.repair]
    return "+".join(repairs) if len(repairs) == len(faults) and repairs else None


def _diagnose_strange_colors(fault: Fault, colors: np.ndarray, labels: LabelSet) -> Diagnosis:
    numbers, place, counts = np.unique(pack_colors(colors), return_inverse=True, return_counts=True)
    place = place.reshape(colors.shape[:2])
    palette = unpack_colors(numbers)
    known = np.array([*labels.palette, labels.void_color or labels.palette[0]])
    distances = np.linalg.norm(palette[:, None].astype(np.float32) - known[None], axis=2).min(axis=1)
    near = nearest_classes(palette, labels)[1]
    share = counts[near].sum() / counts.sum()
    low, high = neighborhood(colors)
    inside = (low == high).all(axis=2) & (distances > _ROUNDING)[place]  # regions drawn in a color of no class
    ambiguous = len(set(labels.palette)) < labels.num_classes  # two classes of one color
    if ambiguous or (distances > 0).sum() <= STRAY_COLORS or share < NEAR_SHARE or inside.mean() >= INSIDE_SHARE:
        return Diagnosis(None, (fault,))
    reason = f"{(distances > 0).sum()} colors between those of the classes, {1 - share:.1%} of the pixels far from all"
    result = nearest_ids(colors, labels)
    return Diagnosis(result, (Fault("interpolated-mask", f"{reason}: {CAUSE}", SMOOTH, "nearest"),))
