"""What is wrong with one mask by itself: its file format, its depth, its colours."""

from __future__ import annotations

import numpy as np

from segmnv2.data.colour_mask import colours_to_ids
from segmnv2.data.mask_file import VOID_COLOUR
from segmnv2.data.sample import Mask
from segmnv2.doctor.diagnosis import CAUSE, NEAR_SHARE, SMOOTH, Classes, Diagnosis, Fault
from segmnv2.doctor.id_diagnosis import diagnose_ids
from segmnv2.doctor.raw_mask import RawMask
from segmnv2.doctor.repair import nearest_classes, pack_colours, unpack_colours
from segmnv2.errors import DatasetError

READ_FORMATS = ("PNG", "BMP", "TIFF")
"""Formats that training reads masks from."""

STRAY_COLOURS = 8
"""More colours of no class than this come of smoothing, fewer of a palette that is not the right one."""


def diagnose_mask(raw: RawMask, classes: Classes) -> Diagnosis:
    """Tell what a mask holds, and what is wrong with it."""
    if raw.values.ndim == 3:
        result = _diagnose_colours(raw, classes)
    elif raw.values.dtype != np.uint8:
        result = _diagnose_depth(raw.values, classes)
    else:
        result = diagnose_ids(raw.values, raw.palette, classes)
    if raw.format not in READ_FORMATS:
        result = _diagnose_format(raw.format, result, classes)
    if raw.animated:
        animated = Fault(
            "animated", "has several frames or pages", "save the one that is meant as PNG; the first counts"
        )
        result = Diagnosis(result.ids, (*result.faults, animated))
    return result


def _diagnose_format(name: str, found: Diagnosis, classes: Classes) -> Diagnosis:
    """Put the file format in the place of what comes of it."""
    unrepaired = tuple(fault for fault in found.faults if fault.repair is None)
    repairs = [fault.repair for fault in found.faults if fault.repair]
    if name == "GIF":  # writers leave out colours that do not occur, and number the others anew
        remedy = "export it anew as palette or 8-bit grey PNG of ids"
        return Diagnosis(None, (Fault("mask-format", "is a GIF file, which does not keep ids", remedy),))
    if name != "JPEG":
        repair = "+".join(repairs or ["resave"]) if found.ids is not None and not unrepaired else None
        fault = Fault("mask-format", f"is a {name} file", "save it as palette or 8-bit grey PNG of ids", repair)
        return Diagnosis(found.ids, (fault, *unrepaired))
    repair = "+".join(repairs) if repairs and not unrepaired else None
    effect = found.faults[0].reason if found.faults else "JPEG's compression changes ids along borders"
    remedy = "export it anew as PNG from where it was drawn"
    return Diagnosis(found.ids, (Fault("jpeg-mask", f"is a JPEG: {effect}", remedy, repair),))


def _diagnose_depth(values: np.ndarray, classes: Classes) -> Diagnosis:
    low, high = values.min(), values.max()
    span = f"has {values.dtype} pixels from {low} to {high}, a mask has 8 bits"
    remedy = f"save it as 8-bit grey PNG of ids {classes.allowed}"
    levels = set(np.unique(values).tolist())
    if low < 0 or not (high <= 255 or levels <= {0, 65535}) or values.dtype.kind == "f":
        return Diagnosis(None, (Fault("deep-mask", span, remedy),))
    inner = diagnose_ids((values if high <= 255 else values // 257).astype(np.uint8), None, classes)
    return Diagnosis(inner.ids, (Fault("deep-mask", span, remedy, "depth"), *inner.faults))


def _diagnose_colours(raw: RawMask, classes: Classes) -> Diagnosis:
    colours = raw.values[..., :3]
    clear = int((raw.values[..., 3] != 255).sum())
    if clear:
        reason = f"{clear} of {raw.values[..., 3].size} pixels are transparent"
        remedy = "save it without alpha channel, in the background's colour where nothing is drawn"
        return Diagnosis(None, (Fault("transparent-mask", reason, remedy),))
    exact = _exact_ids(colours, classes)
    if exact is not None:
        if classes.in_colours and raw.format == "PNG":
            return diagnose_ids(exact, None, classes)
        reason = "holds the colours of the palette where ids are needed"
        return Diagnosis(exact, (Fault("rgb-mask", reason, "replace each colour by its class's id", "colours"),))
    if (colours[..., 0] == colours[..., 1]).all() and (colours[..., 0] == colours[..., 2]).all():
        inner = diagnose_ids(np.ascontiguousarray(colours[..., 0]), None, classes)
        reason = "is RGB with three equal channels: grey values saved as colours"
        fault = Fault("rgb-mask", reason, "save one channel as 8-bit grey PNG", "channel")
        return Diagnosis(inner.ids, (fault, *inner.faults))
    if classes.known_palette:
        return _diagnose_strange_colours(colours, classes)
    numbers = np.unique(pack_colours(colours))
    reason = f"holds {len(numbers)} RGB colours, and nothing says which class each one is"
    remedy = "give labels.yaml a palette with one [red, green, blue] a class, or save the mask as PNG of ids"
    return Diagnosis(None, (Fault("rgb-mask", reason, remedy),))


def _exact_ids(colours: np.ndarray, classes: Classes) -> Mask | None:
    if not classes.known_palette:
        return None
    try:
        return colours_to_ids(colours, classes.labels, source="mask")
    except DatasetError:  # other colours, or two classes of one colour
        return None


def _diagnose_strange_colours(colours: np.ndarray, classes: Classes) -> Diagnosis:
    labels = classes.labels
    numbers, place, counts = np.unique(pack_colours(colours), return_inverse=True, return_counts=True)
    palette = unpack_colours(numbers)
    known = {*labels.palette, VOID_COLOUR}
    stray = np.array([tuple(colour) not in known for colour in palette.tolist()])
    ids, near = nearest_classes(palette, labels)
    share = counts[near].sum() / counts.sum()
    if stray.sum() > STRAY_COLOURS and share >= NEAR_SHARE:
        reason = (
            f"{stray.sum()} colours between those of the classes, {1 - share:.1%} of the pixels far from all: {CAUSE}"
        )
        result = np.where(near, ids, labels.ignore_index)[place].reshape(colours.shape[:2])
        return Diagnosis(result.astype(np.uint8), (Fault("interpolated-mask", reason, SMOOTH, "nearest"),))
    order = np.flatnonzero(stray)[np.argsort(-counts[stray], kind="stable")][:STRAY_COLOURS]
    listed = ", ".join(f"{palette[i].tolist()} ({counts[i]} pixels)" for i in order)
    more = f" and {stray.sum() - len(order)} more" if stray.sum() > len(order) else ""
    reason = f"colours {listed}{more} are no class's"
    return Diagnosis(None, (Fault("unknown-colours", reason, "correct the mask, or the palette of the labels"),))
