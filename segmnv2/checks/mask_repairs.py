"""Repairs of masks whose true ids are certain."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from segmnv2.data.raw_mask import RawMask, pack_colors, unpack_colors
from segmnv2.data.sample import Mask
from segmnv2.errors import DatasetError
from segmnv2.labels import LabelSet

COLOR_TOLERANCE = 40.0
"""Largest RGB distance of a color from that of its class. Every other class must be at least twice as far."""

BORDER = 15
"""Side of a square in pixels. A region that cannot contain the square may be a smoothed border."""

OVERSHOOT = 0.2
"""Largest overshoot of cubic scaling and JPEG beyond two colors, as a share of the distance of the colors."""

HALF = 128
"""Smallest gray value that counts as white."""


def repair_values(raw: RawMask, repairs: Sequence[str], labels: LabelSet) -> Mask:
    """Apply the named repairs of :data:`REPAIRS` in order, and return uint8 (H, W) ids, which are not checked.

    Raises:
        DatasetError: the mask has an EXIF orientation, which the repaired mask cannot keep.
    """
    if raw.is_turned:
        raise DatasetError(f"the mask has the EXIF orientation {raw.orientation}; save it upright, without EXIF")
    values = raw.values
    for name in repairs:
        values = REPAIRS[name][0](values, labels)
    return values.astype(np.uint8)


def nearest_classes(colors: np.ndarray, labels: LabelSet) -> tuple[np.ndarray, np.ndarray]:
    """Return the id of the class nearest to each RGB color, uint8 (N, 3), and whether it is near enough.

    The color of ignored pixels counts as a class with the ignore index.
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
    """Return uint8 (H, W) ids of the classes nearest to RGB colors, or the ignore index where they are uncertain.

    At a border, the colors of two classes may blend into that of a third. For example, VOC's background and aeroplane
    blend into cat. So a third class is certain only in regions that are wider than a border.
    """
    numbers, index = np.unique(pack_colors(colors), return_inverse=True)
    ids, near = nearest_classes(unpack_colors(numbers), labels)
    result = np.where(near, ids, labels.ignore_index)[index].reshape(colors.shape[:2]).astype(np.uint8)
    square = np.ones((BORDER, BORDER), np.uint8)
    for blend in _blends(set(ids[near].tolist()), labels):
        region = (result == blend).astype(np.uint8)
        wide = cv2.morphologyEx(region, cv2.MORPH_OPEN, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        result[region > wide] = labels.ignore_index
    return result


def _blends(present: set[int], labels: LabelSet) -> list[int]:
    """Return the present ids whose color may be a blend of the colors of two other classes, within the tolerance.

    A blend lies between the two colors, or a little beyond, because cubic scaling and JPEG overshoot at borders. The
    two classes may be absent, because a smoothed thin object has no pixel of its own color.
    """
    table, ids = _color_table(labels)
    colors = table.astype(np.float64)
    line = colors[None] - colors[:, None]
    length = np.maximum((line**2).sum(axis=2), 1)
    blends = []
    for index in np.flatnonzero(np.isin(ids, list(present - {labels.ignore_index}))):
        offset = colors[index] - colors
        share = np.clip((offset[:, None] * line).sum(axis=2) / length, -OVERSHOOT, 1 + OVERSHOOT)
        distance = np.linalg.norm(offset[:, None] - share[..., None] * line, axis=2)
        others = np.arange(len(colors)) != index
        if distance[np.ix_(others, others)].min(initial=np.inf) <= COLOR_TOLERANCE:
            blends.append(int(ids[index]))
    return blends


def _depth(values: np.ndarray, labels: LabelSet) -> np.ndarray:
    return values if values.max() <= 255 else values // 257  # 65535 becomes 255


def _shift(values: np.ndarray, labels: LabelSet) -> np.ndarray:
    return np.where(values == labels.ignore_index, values, values.astype(int) - 1)


Repair = Callable[[np.ndarray, LabelSet], np.ndarray]

REPAIRS: dict[str, tuple[Repair, str]] = {
    "resave": (lambda values, labels: values, "saved as palette PNG; ids unchanged"),
    "depth": (_depth, "saved with 8 bits; ids unchanged"),
    "channel": (lambda values, labels: values[..., 0], "one of three equal channels used as ids"),
    "nearest": (nearest_ids, "each color replaced by the id of the nearest class, or ignored if uncertain"),
    "threshold": (lambda values, labels: (values >= HALF) * 1, f"{HALF} to 255 replaced by 1, lower values by 0"),
    "binary": (lambda values, labels: (values == 255) * 1, "255 replaced by 1"),
    "shift": (_shift, "1 subtracted from each id; ignored pixels unchanged"),
}
"""Function and description of each repair, by name; a function maps the values and labels to new values."""
