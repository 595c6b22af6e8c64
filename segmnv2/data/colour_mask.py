"""Masks drawn in colours: RGB pictures in which each class has one colour, turned into class ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
from jaxtyping import UInt8, UInt32

from segmnv2.data.mask_file import VOID_COLOUR
from segmnv2.data.sample import Mask
from segmnv2.errors import DatasetError
from segmnv2.labels import Colour, LabelSet

_COLOUR_MODES = ("RGB", "RGBA")
_LISTED = 8


def is_colour_mask(path: str | Path) -> bool:
    """Tell from a file's header whether it is a PNG of colours; ``False`` for what cannot be read, too."""
    try:
        with PIL.Image.open(path, formats=("PNG",)) as picture:
            return picture.mode in _COLOUR_MODES
    except Exception:  # decoders meet damaged bytes with errors of every kind; read_mask names them
        return False


def read_colour_mask(path: str | Path, labels: LabelSet) -> Mask:
    """Read a PNG whose colours are those of the classes.

    Args:
        path: RGB PNG, or RGBA without transparency.
        labels: classes, whose palette the colours are from.

    Returns:
        uint8 (H, W): ids, and the ignore index where the colour is VOC's void, (224, 224, 192).

    Raises:
        DatasetError: the file cannot be read, has transparent pixels or colours of no class, or two classes share a
            colour.
    """
    try:
        with PIL.Image.open(path, formats=("PNG",)) as picture:
            values = np.asarray(picture.convert("RGBA"))
    except Exception as error:
        raise DatasetError(
            f"{path}: cannot be read as a mask ({error}); give a whole PNG in the colours of the classes"
        ) from error
    clear = int((values[..., 3] != 255).sum())
    if clear:
        raise DatasetError(
            f"{path}: {clear} of {values[..., 3].size} pixels are transparent, but a mask says of every pixel what it "
            "is; save it without alpha channel, in the background's colour where nothing is drawn"
        )
    return colours_to_ids(values[..., :3], labels, source=str(path))


def colours_to_ids(colours: UInt8[np.ndarray, "h w 3"], labels: LabelSet, source: str) -> Mask:
    """Replace each colour by the id of its class.

    Args:
        colours: uint8 (H, W, 3), RGB, only colours of the palette and void's.
        labels: classes and their colours.
        source: file that messages name.

    Returns:
        uint8 (H, W): class ids, and the ignore index for void's colour where no class has it.

    Raises:
        DatasetError: colours of no class, listed with their pixel counts, or a colour that two classes share.
    """
    ids = _colour_table(labels, source)
    keys = np.array(sorted(ids), np.uint32)
    wide = colours.astype(np.uint32)
    packed = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    place = np.searchsorted(keys, packed).clip(max=len(keys) - 1)
    unknown = packed[keys[place] != packed]
    if unknown.size:
        raise DatasetError(_unknown_message(unknown, labels, source))
    mask: Mask = np.array([ids[int(key)] for key in keys], np.uint8)[place]
    return mask


def _colour_table(labels: LabelSet, source: str) -> dict[int, int]:
    """Return the id of each colour, packed into one integer."""
    table: dict[int, int] = {}
    for index, colour in enumerate(labels.palette):
        first = table.setdefault(_pack(colour), index)
        if first != index:
            raise DatasetError(
                f"{source}: colours do not tell the classes '{labels.names[first]}' and '{labels.names[index]}' apart, "
                f"both are {_name(colour)}; give each class a colour of its own in the palette and in the masks"
            )
    table.setdefault(_pack(VOID_COLOUR), labels.ignore_index)
    return table


def _unknown_message(unknown: UInt32[np.ndarray, " n"], labels: LabelSet, source: str) -> str:
    values, counts = np.unique(unknown, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    listed = ", ".join(f"{_name(_unpack(int(values[i])))} ({counts[i]} pixels)" for i in order[:_LISTED])
    more = f" and {len(values) - _LISTED} more" if len(values) > _LISTED else ""
    allowed = [f"{_name(colour)} {name}" for name, colour in zip(labels.names, labels.palette, strict=True)]
    if VOID_COLOUR not in labels.palette:
        allowed.append(f"{_name(VOID_COLOUR)} ignored")
    remedy = "correct the mask, or the palette"
    if len(values) > _LISTED:
        remedy += " (many colours come of smoothed edges: draw and scale masks without antialiasing)"
    return f"{source}: colours {listed}{more} are no class's; allowed are {', '.join(allowed)}; {remedy}"


def _pack(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _unpack(value: int) -> Colour:
    return value >> 16, value >> 8 & 255, value & 255


def _name(colour: Colour) -> str:
    return f"[{colour[0]}, {colour[1]}, {colour[2]}]"
