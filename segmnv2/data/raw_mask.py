"""Content of mask files as stored, and conversion of colors to class ids."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
from jaxtyping import UInt8
from PIL.ExifTags import Base as ExifTag

from segmnv2.data.decoders import check_png, stored_form
from segmnv2.data.image_file import MOST_PIXELS, strips
from segmnv2.data.sample import Mask
from segmnv2.errors import DatasetError
from segmnv2.labels import Color, LabelSet

FORMATS = ("PNG", "BMP", "TIFF", "JPEG", "GIF", "WEBP", "PPM")
"""Formats that are decoded. Only the first three keep ids, see :func:`segmnv2.data.mask_file.mask_ids`."""

LOSSY_WEBP = "lossy WEBP"

LOSSY = ("JPEG", LOSSY_WEBP)
"""Formats with lossy compression, which changes values along borders."""

NO_COLOR = -1
"""Color of palette entries that are missing or transparent."""

_GRAY_MODES = ("1", "L", "P")


@dataclass(frozen=True)
class RawMask:
    """The content of a mask file.

    Attributes:
        values: (H, W) uint8 gray values or palette indices; (H, W) of another type if they have more than 8 bits; or
            (H, W, 4) uint8 RGBA.
        format: the format of the content, such as ``PNG``, with any file name ending; one of :data:`LOSSY` if the
            compression is lossy.
        palette: int (256, 3), RGB colors of a palette file, or black and white for a 1-bit file; :data:`NO_COLOR` for
            entries without an opaque color.
        animated: whether the file has more than one frame or page.
        changed: whether decoding changes the stored values. Pillow scales gray of 2 and 4 bits to 8 (of 2 bits, 1
            becomes 85). It cuts 16-bit colors and 16-bit gray with alpha to 8 bits, and inverts some TIFF files.
        orientation: EXIF orientation, which is not applied to the values; 1 if they are upright.
    """

    values: np.ndarray
    format: str
    palette: np.ndarray | None = None
    animated: bool = False
    changed: bool = False
    orientation: int = 1

    @property
    def is_turned(self) -> bool:
        """Whether EXIF turns or mirrors the image."""
        return 2 <= self.orientation <= 8


def read_raw_mask(path: str | Path) -> RawMask:
    """Decode a mask file of any form.

    Raises:
        DatasetError: it is missing or cannot be read.
    """
    path = Path(path)
    remedy = "give a PNG whose pixel values are class ids"
    try:
        content = path.read_bytes()
        if not content:
            raise ValueError("it is empty, 0 bytes")
        with PIL.Image.open(BytesIO(content), formats=FORMATS) as pil:
            if pil.width * pil.height > MOST_PIXELS:
                raise ValueError(f"{pil.width} x {pil.height} pixels, at most {MOST_PIXELS}")
            if pil.format == "PNG":
                check_png(content)
            animated = bool(getattr(pil, "is_animated", False)) and pil.format != "MPO"
            changed = _is_changed(pil)
            pil.load()
            orientation = int(pil.getexif().get(ExifTag.Orientation, 1))  # 1 for TIFF, which Pillow turns itself
            form = _format(pil, content)
            return RawMask(_values(pil), form, _palette(pil), animated, changed, orientation)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such mask; check the path") from None
    except PIL.UnidentifiedImageError:
        reason = f"not an image: it starts with {content[:8]!r}"
        raise DatasetError(f"{path}: cannot be read as a mask ({reason}); {remedy}") from None
    except Exception as error:  # decoders raise errors of every kind for damaged bytes
        raise DatasetError(f"{path}: cannot be read as a mask ({error}); {remedy}") from error


def _is_changed(pil: PIL.Image.Image) -> bool:
    """Return whether decoding changes the values, which depends on the stored pixel format."""
    form = stored_form(pil)
    return pil.mode != "1" and (
        form.startswith(("L;2", "L;4", "L;I")) or (";16" in form and not pil.mode.startswith("I"))
    )


def _values(pil: PIL.Image.Image) -> np.ndarray:
    if pil.mode in _GRAY_MODES:
        return np.array(pil, np.uint8)
    if pil.mode == "F" or pil.mode.startswith("I"):
        return np.array(pil)
    return np.array(pil.convert("RGBA"))


def _format(pil: PIL.Image.Image, content: bytes) -> str:
    if pil.format == "MPO" or "jpeg" in str(pil.info.get("compression")):  # TIFF files may hold JPEGs
        return "JPEG"
    if pil.format == "WEBP" and content[12:16] != b"VP8L":
        return LOSSY_WEBP
    return str(pil.format)


def _palette(pil: PIL.Image.Image) -> np.ndarray | None:
    if pil.mode not in ("1", "P"):
        return None
    colors = [0, 0, 0, 255, 255, 255] if pil.mode == "1" else pil.getpalette("RGB") or []
    entries = np.array(colors, np.int16).reshape(-1, 3)[:256]
    palette = np.full((256, 3), NO_COLOR, np.int16)
    palette[: len(entries)] = entries
    transparent = pil.info.get("transparency")  # one index, or the opacity of each entry
    if isinstance(transparent, int) and 0 <= transparent < 256:
        palette[transparent] = NO_COLOR
    elif isinstance(transparent, bytes):
        palette[: len(transparent)][np.frombuffer(transparent[:256], np.uint8) < 255] = NO_COLOR
    return palette


LISTED = 8
"""Largest number of values or colors that a message lists."""


class UnknownColorError(ValueError):
    """Colors that no class has, listed with their pixel counts.

    Attributes:
        count: number of different colors.
    """

    def __init__(self, message: str, count: int) -> None:
        super().__init__(message)
        self.count = count


def color_ids(labels: LabelSet) -> dict[Color, int]:
    """Return color -> id: the colors of the classes, and the color of ignored pixels with the ignore index.

    Raises:
        ValueError: two classes share a color.
    """
    table: dict[Color, int] = {}
    for index, color in enumerate(labels.palette):
        first = table.setdefault(color, index)
        if first != index:
            raise ValueError(
                f"the classes '{labels.names[first]}' and '{labels.names[index]}' have the same color {list(color)}"
            )
    if labels.void_color is not None:
        table[labels.void_color] = labels.ignore_index
    return table


def colors_to_ids(colors: UInt8[np.ndarray, "h w 3"], labels: LabelSet) -> Mask:
    """Convert each color to the id of its class.

    Args:
        colors: uint8 (H, W, 3), RGB.
        labels: classes and their colors.

    Returns:
        uint8 (H, W): class ids, and the ignore index for the color of ignored pixels.

    Raises:
        UnknownColorError: a color is not that of a class.
        ValueError: two classes share a color.
    """
    ids = {int(pack_colors(np.array(color))): index for color, index in color_ids(labels).items()}
    keys = np.array(sorted(ids), np.uint32)
    table = np.array([ids[int(key)] for key in keys], np.uint8)
    mask = np.empty(colors.shape[:2], np.uint8)
    unmatched = [np.empty(0, np.uint32)]
    for rows in strips(*colors.shape[:2]):
        packed = pack_colors(colors[rows])
        position = np.searchsorted(keys, packed).clip(max=len(keys) - 1)
        mask[rows] = table[position]
        unmatched.append(packed[keys[position] != packed])
    unknown = np.concatenate(unmatched)
    if unknown.size:
        numbers, counts = np.unique(unknown, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:LISTED]
        listed = ", ".join(f"{unpack_colors(numbers[i]).tolist()} ({counts[i]} pixels)" for i in order)
        more = f" and {len(numbers) - LISTED} more" if len(numbers) > LISTED else ""
        raise UnknownColorError(
            f"colors {listed}{more} are not those of a class; allowed are {_allowed(labels)}", len(numbers)
        )
    return mask


def pack_colors(colors: np.ndarray) -> np.ndarray:
    """Return uint32 (...) numbers of RGB colors (..., 3 or 4), 0..255."""
    wide = colors[..., :3].astype(np.uint32)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2])


def unpack_colors(numbers: np.ndarray) -> np.ndarray:
    """Return uint8 (..., 3): the inverse of :func:`pack_colors`."""
    return np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], axis=-1).astype(np.uint8)


def _allowed(labels: LabelSet) -> str:
    allowed = [f"{list(color)} {name}" for name, color in zip(labels.names, labels.palette, strict=True)]
    if labels.void_color is not None:
        allowed.append(f"{list(labels.void_color)} ignored")
    return ", ".join(allowed)
