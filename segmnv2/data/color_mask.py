"""Masks drawn in colors, in which each class has one color, turned into class ids."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from segmnv2.data.image_file import strips
from segmnv2.data.sample import Mask
from segmnv2.labels import Color, LabelSet

LISTED = 8
"""Values or colors that a message lists."""


class UnknownColorError(ValueError):
    """Colors that no class has, listed with their pixel counts.

    Attributes:
        count: number of different colors.
    """

    def __init__(self, message: str, count: int) -> None:
        super().__init__(message)
        self.count = count


def color_ids(labels: LabelSet) -> dict[Color, int]:
    """Return the id of each color: the classes', and the ignore index for that of ignored pixels.

    Raises:
        ValueError: two classes share a color.
    """
    table: dict[Color, int] = {}
    for index, color in enumerate(labels.palette):
        first = table.setdefault(color, index)
        if first != index:
            raise ValueError(
                f"colors do not distinguish the classes '{labels.names[first]}' and '{labels.names[index]}', both are "
                f"{list(color)}"
            )
    if labels.void_color is not None:
        table[labels.void_color] = labels.ignore_index
    return table


def colors_to_ids(colors: UInt8[np.ndarray, "h w 3"], labels: LabelSet) -> Mask:
    """Replace each color by the id of its class.

    Args:
        colors: uint8 (H, W, 3), RGB.
        labels: classes and their colors.

    Returns:
        uint8 (H, W): class ids, and the ignore index for the color of ignored pixels.

    Raises:
        UnknownColorError: there are colors of no class.
        ValueError: two classes share a color.
    """
    ids = {_pack(color): index for color, index in color_ids(labels).items()}
    keys = np.array(sorted(ids), np.uint32)
    table = np.array([ids[int(key)] for key in keys], np.uint8)
    mask = np.empty(colors.shape[:2], np.uint8)
    strange = [np.empty(0, np.uint32)]
    for rows in strips(*colors.shape[:2]):
        packed = pack_colors(colors[rows])
        place = np.searchsorted(keys, packed).clip(max=len(keys) - 1)
        mask[rows] = table[place]
        strange.append(packed[keys[place] != packed])
    unknown = np.concatenate(strange)
    if unknown.size:
        numbers, counts = np.unique(unknown, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:LISTED]
        listed = ", ".join(f"{unpack_colors(numbers[i]).tolist()} ({counts[i]} pixels)" for i in order)
        more = f" and {len(numbers) - LISTED} more" if len(numbers) > LISTED else ""
        raise UnknownColorError(f"colors {listed}{more} are no class's; allowed are {_allowed(labels)}", len(numbers))
    return mask


def pack_colors(colors: np.ndarray) -> np.ndarray:
    """Return uint32 (H, W) numbers of RGB colors, uint8 (H, W, 3 or 4)."""
    wide = colors[..., :3].astype(np.uint32)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2])


def unpack_colors(numbers: np.ndarray) -> np.ndarray:
    """Return uint8 (..., 3): the inverse of :func:`pack_colors`."""
    return np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], axis=-1).astype(np.uint8)


def _pack(color: Color) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _allowed(labels: LabelSet) -> str:
    allowed = [f"{list(color)} {name}" for name, color in zip(labels.names, labels.palette, strict=True)]
    if labels.void_color is not None:
        allowed.append(f"{list(labels.void_color)} ignored")
    return ", ".join(allowed)
