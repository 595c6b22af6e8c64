"""Repairs of masks where ids are certain."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from segmnv2.data.raw_mask import RawMask, pack_colors, unpack_colors
from segmnv2.data.sample import Mask
from segmnv2.errors import DatasetError
from segmnv2.labels import LabelSet

COLOR_TOLERANCE = 40.0
"""Distance in RGB up to which a color is taken for a class's; another class must be at least twice as far."""

BORDER = 15
"""Side in pixels of the square that a region must hold to be no border that smoothing has made."""

OVERSHOOT = 0.2
"""Share of the distance of two colors by which cubic scaling and JPEG leave the line between them."""

HALF = 128
"""Grays from here on are white."""


def repair_values(raw: RawMask, repairs: Sequence[str], labels: LabelSet) -> Mask:
    """Apply repairs, names in :data:`REPAIRS`, one after the other, and return uint8 (H, W): ids, not checked.

    Raises:
        DatasetError: the mask has an EXIF orientation, which the repaired one would lose.
    """
    if raw.is_turned:
        raise DatasetError(f"the mask has the EXIF orientation {raw.orientation}; save it as its image is shown")
    values = raw.values
    for name in repairs:
        values = REPAIRS[name][0](values, raw, labels)
    return values.astype(np.uint8)


def nearest_classes(colors: np.ndarray, labels: LabelSet) -> tuple[np.ndarray, np.ndarray]:
    """Return of each RGB color, uint8 (N, 3), the nearest class's id, and whether it is near enough to be taken for it.

    Void's color stands for the ignore index.
    """
    table, ids = _color_table(labels)
    distances = np.linalg.norm(colors[:, None].astype(np.float32) - table[None].astype(np.float32), axis=2)
    order = np.sort(distances, axis=1)
    near = order[:, 0] <= COLOR_TOLERANCE
    if order.shape[1] > 1:
        near &= 2 * order[:, 0] <= order[:, 1]
    return ids[distances.argmin(axis=1)], near


def _color_table(labels: LabelSet) -> tuple[np.ndarray, np.ndarray]:
    colors, ids = list(labels.palette), list(range(labels.num_classes))
    if labels.void_color is not None:
        colors.append(labels.void_color)
        ids.append(labels.ignore_index)
    return np.array(colors, int), np.array(ids, np.uint8)


def nearest_ids(colors: np.ndarray, labels: LabelSet) -> np.ndarray:
    """Return uint8 (H, W) ids of the classes nearest to RGB colors, or the ignore index where they are not certain.

    Two classes' colors may blend into that of a third along a border, as black and VOC's aeroplane into its cat. Such a
    third is certain only in regions that are wider than a border.
    """
    numbers, place = np.unique(pack_colors(colors), return_inverse=True)
    ids, near = nearest_classes(unpack_colors(numbers), labels)
    result = np.where(near, ids, labels.ignore_index)[place].reshape(colors.shape[:2]).astype(np.uint8)
    square = np.ones((BORDER, BORDER), np.uint8)
    for blend in _blends(set(ids[near].tolist()), labels):
        region = (result == blend).astype(np.uint8)
        wide = cv2.morphologyEx(region, cv2.MORPH_OPEN, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        result[region > wide] = labels.ignore_index
    return result


def _blends(present: set[int], labels: LabelSet) -> list[int]:
    """Return those of the ids whose color is, within the tolerance, on the line through the colors of two others.

    It is between the two, or beyond one of them: cubic scaling and JPEG overshoot at borders. The two may be of any
    class: of a thin object or outline smoothing leaves no pixel that has its color.
    """
    table, ids = _color_table(labels)
    colors = table.astype(np.float64)
    line = colors[None] - colors[:, None]
    length = np.maximum((line**2).sum(axis=2), 1)
    found = []
    for place in np.flatnonzero(np.isin(ids, list(present - {labels.ignore_index}))):
        way = colors[place] - colors
        share = np.clip((way[:, None] * line).sum(axis=2) / length, -OVERSHOOT, 1 + OVERSHOOT)
        distance = np.linalg.norm(way[:, None] - share[..., None] * line, axis=2)
        others = np.arange(len(colors)) != place
        if distance[np.ix_(others, others)].min(initial=np.inf) <= COLOR_TOLERANCE:
            found.append(int(ids[place]))
    return found


def _depth(values: np.ndarray, raw: RawMask, labels: LabelSet) -> np.ndarray:
    return values if values.max() <= 255 else values // 257  # 65535 becomes 255


def _shift(values: np.ndarray, raw: RawMask, labels: LabelSet) -> np.ndarray:
    return np.where(values == labels.ignore_index, values, values.astype(int) - 1)


Repair = Callable[[np.ndarray, RawMask, LabelSet], np.ndarray]

REPAIRS: dict[str, tuple[Repair, str]] = {
    "resave": (lambda values, raw, labels: values, "saved again as palette PNG; ids unchanged"),
    "depth": (_depth, "saved with 8 bits; ids unchanged"),
    "channel": (lambda values, raw, labels: values[..., 0], "one of three equal channels taken for the ids"),
    "nearest": (
        lambda values, raw, labels: nearest_ids(values, labels),
        "each color replaced by the id of the nearest class, or by ignore where it is not certain",
    ),
    "threshold": (lambda values, raw, labels: (values >= HALF) * 1, f"grays from {HALF} on made 1, darker ones 0"),
    "binary": (lambda values, raw, labels: (values == 255) * 1, "255 made 1"),
    "shift": (_shift, "1 subtracted from each id; ignored pixels stay"),
}
"""Every repair: from values to values, and what it does in words."""
