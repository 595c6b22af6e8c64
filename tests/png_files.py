"""PNG files of every form, chunk by chunk."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Color type -> samples a pixel: gray, RGB, palette, gray with alpha, RGBA."""

DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def png(
    color: int,
    bits: int,
    frames: Sequence[Sequence[Sequence[Sequence[int]]]],
    *,
    palette: bytes | None = None,
    transparency: bytes | None = None,
    first_is_apart: bool = False,
) -> bytes:
    """A PNG of rows of pixels of samples; an animated one of several frames, of which the first may be none of them."""
    height, width = len(frames[0]), len(frames[0][0])
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))]
    chunks += [(b"PLTE", palette)] if palette is not None else []
    chunks += [(b"tRNS", transparency)] if transparency is not None else []
    if len(frames) > 1:
        chunks.append((b"acTL", struct.pack(">II", len(frames) - first_is_apart, 0)))
    count = 0
    for place, frame in enumerate(frames):
        if len(frames) > 1 and not (place == 0 and first_is_apart):
            chunks.append((b"fcTL", struct.pack(">IIIIIHHBB", count, width, height, 0, 0, 1, 10, 0, 0)))
            count += 1
        pixels = zlib.compress(b"".join(b"\0" + _packed(row, bits) for row in frame))
        chunks.append((b"IDAT", pixels) if place == 0 else (b"fdAT", struct.pack(">I", count) + pixels))
        count += place > 0
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*each) for each in (*chunks, (b"IEND", b"")))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _packed(row: Sequence[Sequence[int]], bits: int) -> bytes:
    digits = "".join(f"{sample:0{bits}b}" for pixel in row for sample in pixel)
    digits += "0" * (-len(digits) % 8)
    return int(digits, 2).to_bytes(len(digits) // 8, "big")
