"""Mirroring that an MP4 or QuickTime file states: FFmpeg's rotation, which OpenCV applies, leaves it out.

Source: the boxes ``mvhd``, ``tkhd`` and ``hdlr`` of ISO/IEC 14496-12.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

MATRIX_FROM_END = {b"mvhd": 64, b"tkhd": 44}
"""Bytes from where the matrix begins to the end of its box, in every version of it."""


class Box(NamedTuple):
    """A part of a file: its kind, and where its content is."""

    kind: bytes
    start: int
    end: int


def is_mirrored(path: Path) -> bool:
    """Return whether the first video track of a file is to be mirrored, besides being turned.

    Files of other formats and damaged ones are not: whoever decodes them reports what is wrong.
    """
    try:
        with path.open("rb") as file:
            movie = next((box for box in _boxes(file, 0, path.stat().st_size) if box.kind == b"moov"), None)
            return movie is not None and _turns_over(file, movie)
    except (OSError, struct.error):
        return False


def _turns_over(file: BinaryIO, movie: Box) -> bool:
    parts = list(_boxes(file, movie.start, movie.end))
    tracks = [list(_boxes(file, box.start, box.end)) for box in parts if box.kind == b"trak"]
    video = next((track for track in tracks if _is_video(file, track)), [])
    headers = [box for box in (*parts, *video) if box.kind in MATRIX_FROM_END]
    return sum(_determinant(file, box) < 0 for box in headers) == 1


def _is_video(file: BinaryIO, track: list[Box]) -> bool:
    media = [part for box in track if box.kind == b"mdia" for part in _boxes(file, box.start, box.end)]
    return any(_read(file, box.start + 8, 4) == b"vide" for box in media if box.kind == b"hdlr")


def _determinant(file: BinaryIO, box: Box) -> int:
    a, b, _, c, d = struct.unpack(">5i", _read(file, box.end - MATRIX_FROM_END[box.kind], 20))
    return int(a * d - b * c)


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two places of a file."""
    while end - start >= 8:
        length, kind = struct.unpack(">I4s", _read(file, start, 8))
        header = 8
        if length == 1:  # the length is a larger number that follows
            (length,), header = struct.unpack(">Q", _read(file, start + 8, 8)), 16
        elif length == 0:
            length = end - start
        if length < header:
            return
        yield Box(kind, start + header, min(start + length, end))
        start += length


def _read(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)
