"""The sorted table that a TensorFlow V2 checkpoint keeps its index in: LevelDB's file format.

Data blocks of prefix-compressed keys, an index block that says where they lie, and a footer that says where the
index block lies. Each block ends with its kind of compression and a checksum.

Source: LevelDB's doc/table_format.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import google_crc32c

from segmnv2.weights.protobuf_wire import MalformedError, read_bytes, read_varint

TABLE_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
"""Last bytes of every table."""

_FOOTER_SIZE = 48
_TRAILER_SIZE = 5  # one byte of compression, four of checksum
_COMPRESSIONS = {1: "Snappy", 2: "Zstandard"}


def masked_crc32c(data: bytes) -> int:
    """Checksum of ``data`` as LevelDB stores it: rotated and offset, so that it differs from a checksum of itself."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def ends_like_table(path: Path) -> bool:
    """Whether the last bytes of a file are those of a table."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(TABLE_MAGIC)))
        return file.read() == TABLE_MAGIC


def read_table(path: Path) -> dict[bytes, bytes]:
    """Read a table whole, every checksum verified.

    Returns:
        Its keys and values, in the table's ascending order of keys.

    Raises:
        MalformedError: the file is no table, is cut short or damaged, or is compressed.
        OSError: the file cannot be read.
    """
    entries: dict[bytes, bytes] = {}
    last_key, next_offset = None, 0
    with path.open("rb") as file:
        for _, encoded in _read_entries(_read_block(file, _read_footer(file))):
            handle, _ = _read_handle(encoded, 0)
            # Blocks that follow one another cannot add up to more than the file, whatever the index claims.
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
    """Return where the index block lies."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise MalformedError("it is empty (0 bytes)")
    file.seek(max(0, size - _FOOTER_SIZE))
    footer = file.read(_FOOTER_SIZE)
    if len(footer) < _FOOTER_SIZE or not footer.endswith(TABLE_MAGIC):
        file.seek(0)
        raise MalformedError(
            f"it does not end as an index must; it is cut short, or another kind of file ({size} bytes "
            f"that start with {file.read(16)!r})"
        )
    _, position = _read_handle(footer, 0)  # of the meta index, which TensorFlow leaves empty
    return _read_handle(footer, position)[0]


def _read_block(file: BinaryIO, handle: _Handle) -> bytes:
    """Return a block's contents, checksum verified."""
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
    """Yield a block's keys and values; each key is stored as what differs from the key before it."""
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
