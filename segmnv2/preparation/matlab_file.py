"""Fields of structures in MATLAB files of version 5.

scipy's reader trusts sizes in the file, so damaged bytes can end the process. Here every size is checked first.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

HEADER = 128
ORDERS = {b"IM": "<", b"MI": ">"}
"""Bytes 126 and 127 of a file -> byte order."""

MATRIX, COMPRESSED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Types of elements of numbers."""

STRUCTURE = 2
NUMERIC = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""Classes of arrays of numbers, which may be stored in a smaller type."""

LARGEST = 1 << 28
"""Bytes that a compressed variable may hold."""

Element = tuple[int, memoryview]


def read_field(content: bytes, variable: str, field: str) -> np.ndarray[Any, Any]:
    """Return an array of numbers that is a field of a structure.

    Args:
        content: bytes of the file.
        variable: name of a structure of size 1 x 1.
        field: name of the field.

    Raises:
        KeyError: there is no such variable or field, or it is no array of numbers.
        ValueError: the bytes are no such file, or damaged.

    Source: MathWorks, "MAT-File Format", level 5.
    """
    order = ORDERS.get(content[HEADER - 2 : HEADER])
    if order is None:
        raise ValueError("it has no header of version 5")
    for kind, data in _elements(memoryview(content)[HEADER:], order):
        if kind == COMPRESSED:
            kind, data = _unpacked(data, order)
        if kind == MATRIX:
            array, _, name, parts = _matrix(data, order)
            if name == variable and array == STRUCTURE:
                return _numbers(_field(parts, field, order), order)
    raise KeyError(variable)


def _elements(data: memoryview, order: str) -> Iterator[Element]:
    """Yield type and content of one element after the other."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        start, room, step = at + 8, len(data) - at - 8, size + (-size % 8 if kind != COMPRESSED else 0)
        if kind >> 16:  # at most 4 bytes, stored in the tag itself
            kind, size, start, room, step = kind & 0xFFFF, kind >> 16, at + 4, 4, 4
        if size > room:
            raise ValueError(f"an element of {size} bytes has only {room}")
        yield kind, data[start : start + size]
        at = start + step


def _unpacked(data: memoryview, order: str) -> Element:
    try:
        content = zlib.decompressobj().decompress(data, LARGEST)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    return next(_elements(memoryview(content), order), (0, data))


def _matrix(data: memoryview, order: str) -> tuple[int, tuple[int, ...], str, Iterator[Element]]:
    """Return class, sizes and name of an array, and the elements that follow."""
    elements = _elements(data, order)
    parts = [part for _, part in islice(elements, 3)]
    if len(parts) < 3 or len(parts[0]) != 8 or len(parts[1]) % 4:
        raise ValueError("an array has no flags, sizes and name")
    sizes = tuple(np.frombuffer(parts[1], f"{order}i4").tolist())
    return int(struct.unpack_from(f"{order}I", parts[0])[0]) & 0xFF, sizes, bytes(parts[2]).decode("latin-1"), elements


def _field(parts: Iterator[Element], field: str, order: str) -> memoryview:
    head = [part for _, part in islice(parts, 2)]
    if len(head) < 2 or len(head[0]) != 4:
        raise ValueError("a structure has no names of fields")
    length, names = struct.unpack(f"{order}I", head[0])[0] or 1, bytes(head[1])
    for start, (kind, value) in zip(range(0, len(names), length), parts, strict=False):
        if names[start : start + length].rstrip(b"\0") == field.encode() and kind == MATRIX:
            return value
    raise KeyError(field)


def _numbers(data: memoryview, order: str) -> np.ndarray[Any, Any]:
    array, sizes, _, parts = _matrix(data, order)
    kind, stored = next(parts, (0, memoryview(b"")))
    if array not in NUMERIC:
        raise KeyError(f"it is of class {array}, not numbers")
    if kind not in STORED or len(stored) % int(STORED[kind][1]) or min(sizes, default=0) < 0:
        raise ValueError("an array's numbers are damaged")
    values = np.frombuffer(stored, order + STORED[kind])
    return values.astype(NUMERIC[array]).reshape(sizes, order="F")
