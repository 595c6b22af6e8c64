"""Entries of the index of a TensorFlow V2 checkpoint: type, shape and place of each variable.

Source: tensorflow/core/protobuf/tensor_bundle.proto, tensor_shape.proto and types.proto.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from segmnv2.weights.protobuf_wire import FieldValue, MalformedError, read_fields

TORCH_DTYPES = {
    1: torch.float32,
    2: torch.float64,
    3: torch.int32,
    9: torch.int64,
    14: torch.bfloat16,
    19: torch.float16,
}
"""TensorFlow's type numbers that can be read."""

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
        """Element type; none where torch has no such type or it holds no numbers."""
        return TORCH_DTYPES.get(self.dtype_number)

    @property
    def dtype_name(self) -> str:
        """Element type in words."""
        known = TORCH_DTYPES.get(self.dtype_number)
        if known is not None:
            return str(known).removeprefix("torch.")
        return _OTHER_DTYPES.get(self.dtype_number, f"number {self.dtype_number}")


def parse_shard_count(header: bytes) -> int:
    """Return the number of data files, from the index's header.

    Raises:
        MalformedError: the header is damaged, of a V1 checkpoint, or of values in big-endian order.
    """
    shards, big_endian = 0, 0
    for number, value in read_fields(header):
        if number == 1:
            if isinstance(value, bytes):  # SavedTensorSlices.meta, a message, where V2 has a number
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
    """Read the description of one variable.

    Raises:
        MalformedError: it is damaged, contradicts itself, or is of a partitioned variable.
    """
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
        raise MalformedError(f"{value!r} stands where a number from 0 on must be")
    return value


def _message(value: FieldValue) -> bytes:
    if isinstance(value, int):
        raise MalformedError(f"the number {value} stands where a message must be")
    return value
