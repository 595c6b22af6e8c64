"""PNG files, where what Pillow and OpenCV make of them is not enough."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import PIL.Image

_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
_STEPS = {"L;2": 85, "L;4": 17}
"""Pillow's names of gray of 2 and 4 bits -> by how much a level is multiplied in decoding."""


def check_png(content: bytes) -> None:
    """Compare each chunk of a PNG file with its checksum; Pillow passes over those of the pixels.

    Raises:
        ValueError: a chunk is damaged, or the end is missing.
    """
    view = memoryview(content)
    for kind, at, end in _chunks(content):
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise ValueError(f"chunk {kind!r} at byte {at} has another checksum than its own")
        if kind == b"IEND":
            return
    raise ValueError("the end is missing")


def default_image(content: bytes) -> bytes:
    """Return an animated PNG file without its animation; any other file unchanged.

    What is left is the image that programs without animation show. It need not be one of the frames, and OpenCV gives
    out the first frame.
    """
    if b"acTL" not in content:
        return content
    view = memoryview(content)
    return content[:8] + b"".join(view[at:end] for kind, at, end in _chunks(content) if kind not in _ANIMATION)


def transparent_gray(picture: PIL.Image.Image) -> int | None:
    """Return the gray level that a PNG file calls transparent, as it is after decoding; ``None`` if there is none.

    Pillow keeps the level as stored, which decoding multiplies in files of 2 and 4 bits, and does not apply one of 16.

    Args:
        picture: not decoded yet; of a decoded one the level is that of 8 or 16 bits.
    """
    level = picture.info.get("transparency")
    if picture.format != "PNG" or not picture.mode.startswith(("L", "I")) or not isinstance(level, int):
        return None
    return level * _STEPS.get(stored_form(picture), 1)


def stored_form(picture: PIL.Image.Image) -> str:
    """Return the decoder's name for how pixels are stored, as ``L;4``; nothing of an image that is decoded already."""
    tiles = getattr(picture, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return str(arguments if isinstance(arguments, str) else arguments[0] if arguments else "")


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, begin and end of the chunks; those that are cut off are left out."""
    at = 8
    while at + 12 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        yield content[at + 4 : at + 8], at, end
        at = end
