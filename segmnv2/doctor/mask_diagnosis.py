"""Faults of one mask by itself: training's own reading of it, and repairs where its meaning is certain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from segmnv2.data.color_mask import pack_colors, unpack_colors
from segmnv2.data.mask_file import MaskError, mask_ids
from segmnv2.data.raw_mask import RawMask
from segmnv2.doctor.diagnosis import CAUSE, NEAR_SHARE, SMOOTH, Diagnosis, Fault
from segmnv2.doctor.id_diagnosis import INSIDE_SHARE, diagnose_strange_ids, diagnose_valid_ids, neighborhood
from segmnv2.doctor.repair import nearest_classes
from segmnv2.labels import LabelSet

STRAY_COLORS = 8
"""More colors of no class than this come from smoothing, fewer from a palette that is not the right one."""

_ROUNDING = 8.0
"""Distance in RGB by which JPEG changes a color inside a region."""


def diagnose_mask(raw: RawMask, labels: LabelSet) -> Diagnosis:
    """Return what a mask holds, and what is wrong with it."""
    try:
        ids = mask_ids(raw, labels)
        result = diagnose_valid_ids(ids, raw.palette if ids is raw.values else None, labels)
    except MaskError as error:
        result = _diagnose_error(error, raw, labels)
    if raw.animated:
        remedy = "save the one that is meant as PNG; the first counts"
        result = Diagnosis(result.ids, (*result.faults, Fault("animated", "has several frames or pages", remedy)))
    return result


def _diagnose_error(error: MaskError, raw: RawMask, labels: LabelSet) -> Diagnosis:
    """Find the repair of a mask that training refuses, if there is a certain one."""
    fault = Fault(error.kind, error.reason, error.remedy)
    if error.kind == "jpeg-mask":
        found = diagnose_mask(replace(raw, format="PNG"), labels)
        repair = _together(found.faults)
        if not {"nearest", "threshold", "binary"} & {*(repair or "").split("+")}:
            repair = None  # ids of classes do not show how compression changed them
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
    """Return the repairs of several faults, in one; ``None`` where one has none."""
    repairs = [fault.repair for fault in faults if fault.repair]
    return "+".join(repairs) if len(repairs) == len(faults) and repairs else None


def _diagnose_strange_colors(fault: Fault, colors: np.ndarray, labels: LabelSet) -> Diagnosis:
    numbers, place, counts = np.unique(pack_colors(colors), return_inverse=True, return_counts=True)
    place = place.reshape(colors.shape[:2])
    palette = unpack_colors(numbers)
    known = np.array([*labels.palette, labels.void_color or labels.palette[0]])
    distances = np.linalg.norm(palette[:, None].astype(np.float32) - known[None], axis=2).min(axis=1)
    ids, near = nearest_classes(palette, labels)
    share = counts[near].sum() / counts.sum()
    low, high = neighborhood(colors)
    inside = (low == high).all(axis=2) & (distances > _ROUNDING)[place]  # regions drawn in a color of no class
    if (distances > 0).sum() <= STRAY_COLORS or share < NEAR_SHARE or inside.mean() >= INSIDE_SHARE:
        return Diagnosis(None, (fault,))
    reason = f"{(distances > 0).sum()} colors between those of the classes, {1 - share:.1%} of the pixels far from all"
    result = np.where(near, ids, labels.ignore_index)[place].astype(np.uint8)
    return Diagnosis(result, (Fault("interpolated-mask", f"{reason}: {CAUSE}", SMOOTH, "nearest"),))
