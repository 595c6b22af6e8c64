"""Repairs of masks whose ids can be determined with certainty."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from segmnv2.data.raw_mask import RawMask, pack_colors, unpack_colors
from segmnv2.data.sample import Mask
from segmnv2.errors import DatasetError
from segmnv2.labels import LabelSet

COLOR_TOLERANCE = 40.0
"""Largest distance in RGB of a color from its class's color; every other class must be at least twice as far."""

BORDER = 15
"""Side in pixels of a square; a region that contains none of that size may be a border that smoothing made."""

OVERSHOOT = 0.2
"""Share of the distance of two colors by which cubic scaling and JPEG may exceed the line between them."""

HALF = 128
"""Smallest gray value that counts as white."""


def repair_values(raw: RawMask, repairs: Sequence[str], labels: LabelSet) -> Mask:
    """Apply repairs, names in :data:`REPAIRS`, one after another, and return uint8 (H, W) ids, which are not checked.

    Raises:
        DatasetError: the mask has an EXIF orientation, which the repaired mask would not have.
    """
    if raw.is_turned:
        raise DatasetError(f"the mask has the EXIF orientation {raw.orientation}; save it as its image is shown")
    values = raw.values
    for name in repairs:
        values = REPAIRS[name][0](values, raw, labels)
    return values.astype(np.uint8)


def nearest_classes(colors: np.ndarray, labels: LabelSet) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each RGB color, uint8 (N, 3), the id of the nearest class, and whether it is near enough.

    The color of ignored pixels gives the ignore index.
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

    Along a border, the colors of two classes may blend into that of a third, such as VOC's background and aeroplane
    into its cat. The third class is certain only in regions that are wider than a border.
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
    """Return the present ids whose color is, within the tolerance, on the line through the colors of two classes.

    The color is between the two or a little beyond one of them, because cubic scaling and JPEG overshoot at borders.
    The two classes need not be present: smoothing of a thin object leaves no pixel with the object's color.
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
