"""Writes TensorFlow V2 checkpoints, as small as tests need them: the other half of what the reader must understand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from segmnv2.weights.tensor_bundle import TABLE_MAGIC, TORCH_DTYPES, masked_crc32c
from segmnv2.weights.tensorflow_checkpoint import TensorFlowCheckpoint

DTYPE_NUMBERS = {dtype: number for number, dtype in TORCH_DTYPES.items()}


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def number_field(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message_field(field: int, message: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(message)) + message


def header(shards: int, *, endianness: int = 0) -> bytes:
    version = message_field(3, number_field(1, 1))
    return number_field(1, shards) + (number_field(2, endianness) if endianness else b"") + version


def entry(dtype: int, shape: Iterable[int], shard: int, offset: int, size: int, crc: int) -> bytes:
    """A BundleEntryProto; like protobuf, it leaves out what is zero."""
    dims = b"".join(message_field(2, number_field(1, side) if side else b"") for side in shape)
    numbers = {3: shard, 4: offset, 5: size}
    return (
        number_field(1, dtype)
        + message_field(2, dims)
        + b"".join(number_field(field, value) for field, value in numbers.items() if value)
        + varint(6 << 3 | 5)
        + crc.to_bytes(4, "little")
    )


def block(entries: Iterable[tuple[bytes, bytes]], restart_interval: int) -> bytes:
    """A block of prefix-compressed keys, every ``restart_interval``-th of them stored whole."""
    contents, restarts, previous = bytearray(), [], b""
    for position, (key, value) in enumerate(entries):
        if position % restart_interval == 0:
            restarts.append(len(contents))
            previous = b""
        shared = next(
            (i for i, (a, b) in enumerate(zip(key, previous, strict=False)) if a != b), min(len(key), len(previous))
        )
        contents += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        previous = key
    restarts = restarts or [0]
    return bytes(contents) + b"".join(i.to_bytes(4, "little") for i in [*restarts, len(restarts)])


def write_table(
    path: Path,
    entries: Mapping[bytes, bytes],
    *,
    keys_a_block: int = 3,
    restart_interval: int = 2,
    compression: int = 0,
) -> None:
    file = bytearray()

    def append(contents: bytes) -> bytes:
        handle = varint(len(file)) + varint(len(contents))
        checked = contents + bytes([compression])
        file.extend(checked + masked_crc32c(checked).to_bytes(4, "little"))
        return handle

    items = list(entries.items())
    chunks = [items[start : start + keys_a_block] for start in range(0, len(items), keys_a_block)]
    index = [(chunk[-1][0], append(block(chunk, restart_interval))) for chunk in chunks]
    meta_index = append(block([], 1))
    footer = meta_index + append(block(index, 1))
    path.write_bytes(bytes(file) + footer.ljust(40, b"\0") + TABLE_MAGIC)


def raw_bytes(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist()) if tensor.numel() else b""


def write_checkpoint(prefix: Path, tensors: Mapping[str, torch.Tensor], *, shards: int = 1, **table: int) -> Path:
    """Write a checkpoint whose variables are dealt to ``shards`` data files in turn; return its prefix."""
    data = [bytearray() for _ in range(shards)]
    entries = {b"": header(shards)}
    for position, name in enumerate(sorted(tensors)):
        tensor, shard = tensors[name], position % shards
        values = raw_bytes(tensor)
        entries[name.encode()] = entry(
            DTYPE_NUMBERS[tensor.dtype], tensor.shape, shard, len(data[shard]), len(values), masked_crc32c(values)
        )
        assert len(values) == math.prod(tensor.shape) * tensor.dtype.itemsize
        data[shard] += values
    for shard, content in enumerate(data):
        prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}").write_bytes(content)
    write_table(prefix.with_name(f"{prefix.name}.index"), entries, **table)
    return prefix


def read_all(checkpoint: TensorFlowCheckpoint) -> dict[str, torch.Tensor]:
    return {name: checkpoint.read(name) for name in checkpoint.names}
