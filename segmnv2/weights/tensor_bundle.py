"""Index of a TensorFlow V2 checkpoint: a table in LevelDB's format, whose values are protocol buffers.

A table has data blocks of prefix-compressed keys, an index block and a footer. The index block has the positions of the
data blocks, and the footer that of the index block. Each block ends with its kind of compression and a checksum. All
functions raise :class:`MalformedError` for bytes that do not follow the format.

Source: LevelDB's doc/table_format.md; tensor_bundle.proto, tensor_shape.proto and types.proto of tensorflow/core.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import google_crc32c
import torch

FieldValue = int | bytes

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class MalformedError(ValueError):
    """Bytes that do not follow their format. Callers that know the file raise an error for the user instead."""


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Read an unsigned base-128 integer of at most 64 bits; return it and the position after it."""
    value = 0
    for shift in range(0, 64, 7):
        if position >= len(data):
            raise MalformedError("a number is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, position
    raise MalformedError("a number has more than 64 bits")


def read_bytes(data: bytes, position: int, length: int) -> tuple[bytes, int]:
    """Read ``length`` bytes from ``position``; return them and the position after them."""
    end = position + length
    if end > len(data):
        raise MalformedError(f"{length} bytes are announced, but {len(data) - position} are left")
    return data[position:end], end


def read_fields(message: bytes) -> Iterator[tuple[int, FieldValue]]:
    """Yield number and value of each field of a message, in the stored order.

    Values are unsigned integers for varints and fixed-width numbers, and bytes for all other kinds.
    """
    position = 0
    while position < len(message):
        tag, position = read_varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            integer, position = read_varint(message, position)
            yield number, integer
        elif kind == _BYTES:
            length, position = read_varint(message, position)
            chunk, position = read_bytes(message, position, length)
            yield number, chunk
        elif kind in (_FIXED32, _FIXED64):
            chunk, position = read_bytes(message, position, 4 if kind == _FIXED32 else 8)
            yield number, int.from_bytes(chunk, "little")
        else:
            raise MalformedError(f"a message has a field of the unknown kind {kind}")


TABLE_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
"""Last bytes of every table."""

_FOOTER_SIZE = 48
_TRAILER_SIZE = 5  # one byte of compression, four of checksum
_COMPRESSIONS = {1: "Snappy", 2: "Zstandard"}


def masked_crc32c(data: bytes) -> int:
    """Return the checksum of ``data`` as LevelDB stores it: the CRC-32C, rotated, plus a constant."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def ends_like_table(path: Path) -> bool:
    """Return whether the last bytes of a file are those of a table."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(TABLE_MAGIC)))
        return file.read() == TABLE_MAGIC


def read_table(path: Path) -> dict[bytes, bytes]:
    """Read a whole table and verify every checksum.

    Returns:
        Its keys and values, in the table's ascending order of keys.

    Raises:
        MalformedError: the file is not a table, is cut short or damaged, or is compressed.
        OSError: the file cannot be read.
    """
    entries: dict[bytes, bytes] = {}
    last_key, next_offset = None, 0
    with path.open("rb") as file:
        for _, encoded in _read_entries(_read_block(file, _read_footer(file))):
            handle, _ = _read_handle(encoded, 0)
            # The total size of blocks that do not overlap is at most that of the file.
            if handle.offset < next_offset:
                raise MalformedError("its blocks overlap")
            next_offset = handle.offset + handle.size
            for key, value in _read_entries(_read_block(file, handle)):
                if last_key is not None and key <= last_key:
                    raise MalformedError(f"key {key!r} comes after {last_key!r}, out of order")
                entries[key] = value
                last_key = key
    return entries


class _Handle(NamedTuple):
    """Position of a block in the file, without its trailer."""

    offset: int
    size: int


def _read_handle(data: bytes, position: int) -> tuple[_Handle, int]:
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return _Handle(offset, size), position


def _read_footer(file: BinaryIO) -> _Handle:
    """Return the position of the index block."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise MalformedError("it is empty (0 bytes)")
    file.seek(max(0, size - _FOOTER_SIZE))
    footer = file.read(_FOOTER_SIZE)
    if len(footer) < _FOOTER_SIZE or not footer.endswith(TABLE_MAGIC):
        file.seek(0)
        raise MalformedError(
            f"it does not end like an index; it is cut short or another kind of file ({size} bytes that start with "
            f"{file.read(16)!r})"
        )
    _, position = _read_handle(footer, 0)  # of the meta index, which TensorFlow leaves empty
    return _read_handle(footer, position)[0]


def _read_block(file: BinaryIO, handle: _Handle) -> bytes:
    """Return the contents of a block and verify its checksum."""
    file_size = file.seek(0, os.SEEK_END)
    end = handle.offset + handle.size + _TRAILER_SIZE
    if end > file_size:
        raise MalformedError(f"a block should end at byte {end}, but the file has {file_size} bytes")
    file.seek(handle.offset)
    block = file.read(handle.size + _TRAILER_SIZE)
    checked, stored = block[:-4], int.from_bytes(block[-4:], "little")
    if masked_crc32c(checked) != stored:
        raise MalformedError(f"the checksum of the block at byte {handle.offset} does not match its contents")
    contents, compression = checked[:-1], checked[-1]
    if compression != 0:
        name = _COMPRESSIONS.get(compression, f"kind {compression}")
        raise MalformedError(f"it is compressed ({name}), which TensorFlow itself never does to an index")
    return contents


def _read_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block; each key is stored as its difference from the key before it."""
    if len(block) < 4:
        raise MalformedError("a block is too short to hold its restart points")
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise MalformedError(f"a block of {len(block)} bytes announces {restarts} restart points")
    key, position, entries = b"", 0, block[:end]
    while position < end:
        shared, position = read_varint(entries, position)
        own, position = read_varint(entries, position)
        value_length, position = read_varint(entries, position)
        if shared > len(key):
            raise MalformedError(f"a key shares {shared} bytes with one of {len(key)}")
        suffix, position = read_bytes(entries, position, own)
        value, position = read_bytes(entries, position, value_length)
        key = key[:shared] + suffix
        yield key, value


TORCH_DTYPES = {
    1: torch.float32,
    2: torch.float64,
    3: torch.int32,
    9: torch.int64,
    14: torch.bfloat16,
    19: torch.float16,
}
"""TensorFlow's numbers of the data types that can be read."""

_OTHER_DTYPES = {4: "uint8", 5: "int16", 6: "int8", 7: "string", 10: "bool", 20: "resource", 21: "variant"}


@dataclass(frozen=True)
class BundleEntry:
    """One variable of a checkpoint.

    Attributes:
        dtype_number: TensorFlow's number of the element type.
        shape: sizes in TensorFlow's order of axes.
        shard: number of the data file that holds the values.
        offset: first byte in that file.
        size: number of bytes.
        crc32c: masked checksum of those bytes.
    """

    dtype_number: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc32c: int

    @property
    def dtype(self) -> torch.dtype | None:
        """Element type, or ``None`` if it cannot be read."""
        return TORCH_DTYPES.get(self.dtype_number)

    @property
    def dtype_name(self) -> str:
        """Name of the element type."""
        if self.dtype is not None:
            return str(self.dtype).removeprefix("torch.")
        return _OTHER_DTYPES.get(self.dtype_number, f"number {self.dtype_number}")


def parse_shard_count(header: bytes) -> int:
    """Return the number of data files in the header of an index."""
    shards, big_endian = 0, 0
    for number, value in read_fields(header):
        if number == 1:
            if isinstance(value, bytes):  # the message SavedTensorSlices.meta of V1; V2 has a number here
                raise MalformedError("it is a V1 checkpoint")
            shards = value
        elif number == 2:
            big_endian = _integer(value)
    if big_endian:
        raise MalformedError("its values are stored in big-endian order, which is not supported")
    if shards < 1:
        raise MalformedError("its header names no data file")
    return shards


def parse_entry(message: bytes) -> BundleEntry:
    """Read the description of one variable."""
    numbers = dict.fromkeys((1, 3, 4, 5, 6), 0)
    shape: tuple[int, ...] = ()
    for number, value in read_fields(message):
        if number == 2:
            shape = _parse_shape(_message(value))
        elif number == 7:
            raise MalformedError(
                "it is saved in slices (a partitioned variable), which is not supported; save it unpartitioned"
            )
        elif number in numbers:
            numbers[number] = _integer(value)
    entry = BundleEntry(numbers[1], shape, numbers[3], numbers[4], numbers[5], numbers[6])
    if entry.dtype is not None and entry.size != math.prod(shape) * entry.dtype.itemsize:
        raise MalformedError(f"{entry.size} bytes cannot hold shape {shape} of {entry.dtype_name}")
    return entry


def _parse_shape(message: bytes) -> tuple[int, ...]:
    sizes = []
    for number, value in read_fields(message):
        if number == 2:
            sizes.append(dict(read_fields(_message(value))).get(1, 0))
        elif number == 3 and value:
            raise MalformedError("its shape is unknown")
    return tuple(_integer(size) for size in sizes)


def _integer(value: FieldValue) -> int:
    if isinstance(value, bytes) or value >= 1 << 63:  # the upper half are negative numbers
        raise MalformedError(f"{value!r} is not a number from 0 on")
    return value


def _message(value: FieldValue) -> bytes:
    if isinstance(value, int):
        raise MalformedError(f"the number {value} is not a message")
    return value
