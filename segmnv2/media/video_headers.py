"""Properties of video files that OpenCV does not report: mirroring, size in bytes, and times of all frames.

OpenCV applies FFmpeg's rotation, which ignores the mirroring in MP4 and QuickTime files.
Source: the boxes ``mvhd``, ``tkhd`` and ``hdlr`` of ISO/IEC 14496-12.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2

from segmnv2.media.inputs import quiet

SEGMENT, HEADER = b"\x18\x53\x80\x67", 4096
"""Matroska and WebM: bytes before the stated length of the rest, and number of bytes to search for them."""
MATRIX_FROM_END = {b"mvhd": 64, b"tkhd": 44}
"""Bytes from the start of the matrix to the end of its box, in every version of the box."""


def time_stamps(path: Path) -> Iterator[float]:
    """Yield the time stamps of a file's frames, in seconds and in the order of the file, without decoding them."""
    with quiet():
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
    try:  # callers may stop early
        while capture.grab():
            yield capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
    finally:
        capture.release()


def has_stated_size(path: Path) -> bool:
    """Return whether a Matroska or WebM file is as long as it states, or states no length; ``False`` for other files.

    Its header states no number of frames; OpenCV multiplies duration and rate. Its last frame may have a long duration.
    So only the length in bytes shows that the file is cut off.
    """
    with path.open("rb") as file:
        head = file.read(HEADER)
    at = head.find(SEGMENT) + len(SEGMENT)
    if at < len(SEGMENT) or not head[at : at + 1] or not head[at]:
        return False
    width = 9 - head[at].bit_length()  # the first set bit of a number shows its length in bytes
    unknown = (1 << 7 * width) - 1
    size = int.from_bytes(head[at : at + width], "big") & unknown
    return size == unknown or at + width + size <= path.stat().st_size


class Box(NamedTuple):
    """A part of a file: its kind, and the start and end of its content."""

    kind: bytes
    start: int
    end: int


def is_mirrored(path: Path) -> bool:
    """Return whether the first video track of a file must be mirrored, besides rotation.

    This is false for other formats and damaged files, whose faults the decoder reports.
    """
    try:
        with path.open("rb") as file:
            movie = next((box for box in _boxes(file, 0, path.stat().st_size) if box.kind == b"moov"), None)
            return movie is not None and _has_mirroring(file, movie)
    except (OSError, struct.error):
        return False


def _has_mirroring(file: BinaryIO, movie: Box) -> bool:
    parts = list(_boxes(file, movie.start, movie.end))
    tracks = [list(_boxes(file, box.start, box.end)) for box in parts if box.kind == b"trak"]
    video = next((track for track in tracks if _is_video(file, track)), [])
    headers = [box for box in (*parts, *video) if box.kind in MATRIX_FROM_END]
    matrices = [struct.unpack(">5i", _read(file, box.end - MATRIX_FROM_END[box.kind], 20)) for box in headers]
    return [a * d < b * c for a, b, _, c, d in matrices].count(True) == 1


def _is_video(file: BinaryIO, track: list[Box]) -> bool:
    media = [part for box in track if box.kind == b"mdia" for part in _boxes(file, box.start, box.end)]
    return any(_read(file, box.start + 8, 4) == b"vide" for box in media if box.kind == b"hdlr")


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two positions of a file."""
    while end - start >= 8:
        length, kind = struct.unpack(">I4s", _read(file, start, 8))
        header = 8
        if length == 1:  # the length follows as a larger number
            (length,), header = struct.unpack(">Q", _read(file, start + 8, 8)), 16
        elif length == 0:
            length = end - start
        if length < header:
            return
        yield Box(kind, start + header, min(start + length, end))
        start += length


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)
