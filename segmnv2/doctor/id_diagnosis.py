"""What is wrong with the values of one mask, taken as ids: smoothed borders, a strange palette, ids of no class."""

from __future__ import annotations

import cv2
import numpy as np

from segmnv2.data.sample import Mask
from segmnv2.doctor.diagnosis import CAUSE, NEAR_SHARE, SMOOTH, Classes, Diagnosis, Fault
from segmnv2.doctor.repair import HALF, palette_ids

STRAY_GREYS = 3
"""As many greys between ids, or between black and white, come of smoothing."""

GREY_TOLERANCE = 32
"""How far a grey may be from black or white to be near it."""

BETWEEN_SHARE = 0.1
"""Share of border pixels strictly between their neighbours, from which on a mask counts as smoothed.

In a sound mask only places where three classes meet are so: at most 0.02 in PASCAL VOC's and SBD's masks, where scaling
with interpolation makes it 0.19 to 0.6.
"""

DRAWN_SHARE = 0.01
"""Share of pixels inside regions of a class's id from which on a mask is not one of black and white."""


def diagnose_ids(values: Mask, palette: np.ndarray | None, classes: Classes) -> Diagnosis:
    """Judge values that training would take for ids."""
    labels = classes.labels
    counts = np.bincount(values.ravel(), minlength=256)
    present = np.flatnonzero(counts)
    wrong = present[(present >= labels.num_classes) & (present != labels.ignore_index)]
    faults = []
    if palette is not None and classes.known_palette:
        fault = _palette_fault(palette, present, classes)
        if fault is not None and fault.kind == "palette-order":
            return Diagnosis(palette_ids(palette, labels)[values].astype(np.uint8), (fault,))
        faults += [fault] if fault is not None else []
    if set(present.tolist()) == {labels.ignore_index}:
        reason = f"all {values.size} pixels are {labels.ignore_index}, ignored"
        faults.append(Fault("all-ignored", reason, "draw the mask, or take the pair out"))
    smoothed = _smoothing(values, counts, wrong, classes)
    if smoothed is not None:
        ids = None if smoothed.kind == "interpolated-mask" else values
        if smoothed.repair == "threshold":
            ids = (values >= HALF).astype(np.uint8)
        return Diagnosis(ids, (smoothed, *faults))
    if len(wrong):
        listed = ", ".join(f"{value} ({counts[value]} pixels)" for value in wrong[:8])
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        reason = f"ids {listed}{more} are no class; allowed are {classes.allowed}"
        faults.append(Fault("ids-out-of-range", reason, "correct the mask, or give the labels it was drawn with"))
    return Diagnosis(values, tuple(faults))


def _smoothing(values: Mask, counts: np.ndarray, wrong: np.ndarray, classes: Classes) -> Fault | None:
    """Tell smoothed masks: black and white ones by their greys, others by the pixels along borders."""
    num_classes = classes.labels.num_classes
    low, high = _neighbourhood(values)
    drawn = int(((low == high) & (values > 0) & (values < num_classes)).sum())  # inside regions of a class's id
    white = int(counts[255 - GREY_TOLERANCE :].sum())
    extreme = int(counts[: GREY_TOLERANCE + 1].sum()) + white
    if (
        len(wrong) >= STRAY_GREYS
        and white
        and extreme >= NEAR_SHARE * values.size
        and drawn < DRAWN_SHARE * values.size
    ):
        reason = f"black and white with {int((counts[1:255] > 0).sum())} greys between: {CAUSE}"
        return Fault("interpolated-mask", reason, SMOOTH, "threshold" if num_classes == 2 else None)
    between = (low < values) & (values < high)
    share = int(between.sum()) / max(1, int((low != high).sum()))
    levels = len(np.unique(values[between]))
    if levels < STRAY_GREYS or share < BETWEEN_SHARE:
        return None
    reason = f"{share:.0%} of the pixels along borders, of {levels} values, lie between their neighbours' ids: {CAUSE}"
    return Fault("interpolated-mask" if len(wrong) else "smoothed-ids", reason, SMOOTH)


def _neighbourhood(values: Mask) -> tuple[Mask, Mask]:
    """Return the smallest and the largest id of each pixel's 3 x 3 neighbourhood."""
    kernel = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.erode(values, kernel), np.uint8), np.asarray(cv2.dilate(values, kernel), np.uint8)


def _palette_fault(palette: np.ndarray, present: np.ndarray, classes: Classes) -> Fault | None:
    """Compare the colours of the ids that occur with those of the classes."""
    labels = classes.labels
    used = present[present != labels.ignore_index]
    ids = used[used < labels.num_classes]
    wanted = np.array(labels.palette, int)
    differing = ids[(palette[ids] != wanted[ids]).any(axis=1)]
    if not len(differing) and len(ids) == len(used):
        return None
    if (palette[used] == used[:, None]).all():  # a grey picture saved with a palette: its colours say nothing
        return None
    meant = palette_ids(palette, labels)
    if len(differing) + len(used) > len(ids) and (meant[used] >= 0).all() and (meant[used] != used).any():
        first = int(used[meant[used] != used][0])
        name = "ignored" if meant[first] == labels.ignore_index else f"'{labels.names[meant[first]]}'"
        reason = f"value {first} has the colour of {name}, which is id {meant[first]}: colours are right, ids are not"
        return Fault("palette-order", reason, "save it with the palette of the labels, in its order", "palette-to-ids")
    if not len(differing):
        return None
    first = int(differing[0])
    reason = (
        f"id {first} ('{labels.names[first]}') has the colour {palette[first].tolist()} in place of "
        f"{wanted[first].tolist()}: training takes the ids, whatever their colours"
    )
    remedy = "look whether the ids are those of the labels; if so, save it with their palette, or leave it"
    return Fault("palette-differs", reason, remedy, "resave")
