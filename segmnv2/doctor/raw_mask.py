"""A mask file as it is, before anyone judges it."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image

from segmnv2.errors import DatasetError

FORMATS = ("PNG", "BMP", "TIFF", "JPEG", "GIF", "WEBP", "PPM")
"""Formats that are looked into; training reads the first three only."""

_GREY_MODES = ("1", "L", "P")


@dataclass(frozen=True)
class RawMask:
    """The content of a mask file.

    Attributes:
        values: (H, W) uint8 greys or palette entries, (H, W) of another type where they are deeper, or (H, W, 4) uint8
            RGBA.
        format: the file's true format, as ``PNG``, whatever its ending.
        palette: uint8 (256, 3), RGB, of a palette file; black beyond its entries.
        animated: whether it has further frames or pages.
    """

    values: np.ndarray
    format: str
    palette: np.ndarray | None
    animated: bool


def read_raw_mask(path: str | Path) -> RawMask:
    """Decode a mask file of any form.

    Raises:
        DatasetError: it cannot be read at all.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if not content:
            raise ValueError("it is empty, 0 bytes")
        with PIL.Image.open(BytesIO(content), formats=FORMATS) as picture:
            animated = bool(getattr(picture, "is_animated", False)) and picture.format != "MPO"
            picture.load()
            return RawMask(_values(picture), _format(picture), _palette(picture), animated)
    except PIL.UnidentifiedImageError:
        raise DatasetError(f"{path}: cannot be read as a mask (not an image: it starts with {content[:8]!r})") from None
    except Exception as error:  # decoders meet damaged bytes with errors of every kind
        raise DatasetError(f"{path}: cannot be read as a mask ({error})") from error


def _values(picture: PIL.Image.Image) -> np.ndarray:
    if picture.mode in _GREY_MODES:
        return np.array(picture, np.uint8)
    if picture.mode == "F" or picture.mode.startswith("I"):
        return np.array(picture)
    return np.array(picture.convert("RGBA"))


def _format(picture: PIL.Image.Image) -> str:
    return "JPEG" if picture.format == "MPO" else str(picture.format)


def _palette(picture: PIL.Image.Image) -> np.ndarray | None:
    entries = picture.getpalette("RGB") if picture.mode == "P" else None
    if entries is None:
        return None
    palette = np.zeros(768, np.uint8)
    palette[: len(entries)] = entries
    return palette.reshape(256, 3)
