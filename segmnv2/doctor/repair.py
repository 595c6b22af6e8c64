"""Conversion of faulty masks to the intended ids, where these are certain."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from segmnv2.data.color_mask import pack_colors, unpack_colors
from segmnv2.data.raw_mask import RawMask
from segmnv2.data.sample import Mask
from segmnv2.errors import DatasetError
from segmnv2.labels import LabelSet

COLOR_TOLERANCE = 40.0
"""Distance in RGB up to which a color is taken for a class's; another class must be at least twice as far."""

HALF = 128
"""Grays from here on are white."""


def repair_values(raw: RawMask, repairs: Sequence[str], labels: LabelSet) -> Mask:
    """Apply repairs one after the other.

    Args:
        raw: the faulty mask.
        repairs: names in :data:`REPAIRS`, in the order to be applied.
        labels: the classes.

    Returns:
        uint8 (H, W): what is meant to be ids, not checked.

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
    """Return of each RGB color the nearest class's id, and whether it is near enough to be taken for it.

    Args:
        colors: uint8 (N, 3).
        labels: classes; void's color stands for the ignore index.

    Returns:
        uint8 (N,) ids, bool (N,).
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


def _nearest(values: np.ndarray, raw: RawMask, labels: LabelSet) -> np.ndarray:
    numbers, place = np.unique(pack_colors(values), return_inverse=True)
    ids, near = nearest_classes(unpack_colors(numbers), labels)
    return np.asarray(np.where(near, ids, labels.ignore_index)[place].reshape(values.shape[:2]))


def _depth(values: np.ndarray, raw: RawMask, labels: LabelSet) -> np.ndarray:
    return values if values.max() <= 255 else values // 257  # 65535 becomes 255


def _shift(values: np.ndarray, raw: RawMask, labels: LabelSet) -> np.ndarray:
    return np.where(values == labels.ignore_index, values, values.astype(int) - 1)


Repair = Callable[[np.ndarray, RawMask, LabelSet], np.ndarray]

REPAIRS: dict[str, tuple[Repair, str]] = {
    "resave": (lambda values, raw, labels: values, "saved again as palette PNG; ids unchanged"),
    "depth": (_depth, "saved with 8 bits; ids unchanged"),
    "channel": (lambda values, raw, labels: values[..., 0], "one of three equal channels taken for the ids"),
    "nearest": (_nearest, "each color replaced by the id of the nearest class, those too far from all by ignore"),
    "threshold": (lambda values, raw, labels: (values >= HALF) * 1, f"grays from {HALF} on made 1, darker ones 0"),
    "binary": (lambda values, raw, labels: (values == 255) * 1, "255 made 1"),
    "shift": (_shift, "1 subtracted from each id; ignored pixels stay"),
}
"""Every repair: from values to values, and what it does in words."""
