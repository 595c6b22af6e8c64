"""TensorFlow V2 checkpoints, ``PREFIX.index`` and ``PREFIX.data-00000-of-00001``, read without TensorFlow.

Source: tensorflow/core/util/tensor_bundle for the layout, python/training/{saver,slot_creator}.py for the names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import torch
from torch import Tensor

from segmnv2.errors import WeightsError
from segmnv2.weights.tensor_bundle import (
    TORCH_DTYPES,
    BundleEntry,
    MalformedError,
    ends_like_table,
    masked_crc32c,
    parse_entry,
    parse_shard_count,
    read_table,
)

_SUFFIX = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_LATEST = re.compile(r'^model_checkpoint_path:\s*"(.+)"\s*$', re.MULTILINE)

V1_REMEDY = (
    "V1 checkpoints are not supported: restore it in TensorFlow with tf.compat.v1.train.Saver and save it "
    "with tf.compat.v1.train.Saver(write_version=tf.compat.v1.train.SaverDef.V2)"
)


def index_path(prefix: Path) -> Path:
    """Return the path of a checkpoint's index."""
    return prefix.with_name(f"{prefix.name}.index")


def shard_path(prefix: Path, shard: int, count: int) -> Path:
    """Return the path of data file ``shard`` (from 0) of ``count``."""
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{count:05d}")


def find_prefix(path: str | Path) -> Path:
    """Find the prefix of a checkpoint.

    Args:
        path: the prefix (``model.ckpt-30000``), one of the checkpoint's files, or its folder. A folder of several
            checkpoints needs TensorFlow's file ``checkpoint``, which names the latest.

    Returns:
        The prefix, whose index exists.

    Raises:
        WeightsError: there is no checkpoint, there are several and none is the latest, or it has the V1 format.
    """
    path = Path(path)
    if path.is_dir():
        return _prefix_in_folder(path)
    prefix = path.with_name(_SUFFIX.sub("", path.name))
    if index_path(prefix).is_file():
        return prefix
    raise WeightsError(_describe_missing_index(path, prefix))


def _prefix_in_folder(folder: Path) -> Path:
    prefixes = _prefixes(folder)
    if len(prefixes) == 1:
        return prefixes[0]
    if not prefixes:
        raise WeightsError(
            f"{folder}: no TensorFlow V2 checkpoint here (no *.index file); give the folder or prefix of one, such as "
            "'folder/model.ckpt-30000'"
        )
    names = ", ".join(prefix.name for prefix in prefixes)
    state = folder / "checkpoint"
    if not state.is_file():
        raise WeightsError(
            f"{folder}: holds several checkpoints ({names}) and no file 'checkpoint' that names the latest; give one "
            f"of them, such as '{prefixes[-1]}'"
        )
    match = _LATEST.search(state.read_text(encoding="utf-8", errors="replace"))
    # Only the name is used, because its folder may be one of the machine that wrote the file.
    latest = re.split(r"[/\\]", match.group(1))[-1] if match else None
    if latest not in [prefix.name for prefix in prefixes]:
        raise WeightsError(
            f"{state}: names {latest!r} as the latest checkpoint; the folder holds {names}; give one of them, such as "
            f"'{prefixes[-1]}'"
        )
    return folder / latest


def _prefixes(folder: Path) -> list[Path]:
    return sorted(path.with_suffix("") for path in folder.glob("*.index") if path.is_file())


def _describe_missing_index(path: Path, prefix: Path) -> str:
    """Return a message on the files in place of a checkpoint's index, with a remedy."""
    index = index_path(prefix)
    v1_shards = sorted(prefix.parent.glob(f"{prefix.name}-?????-of-?????")) if prefix.name else []
    for candidate in (path, prefix, *v1_shards[:1]):
        if candidate.is_file() and ends_like_table(candidate):
            return f"{candidate}: is a V1 checkpoint; {V1_REMEDY}"
    if sorted(prefix.parent.glob(f"{prefix.name}.data-*")):
        return f"{index}: missing, though the checkpoint's data is there; copy the .index file beside it"
    if path.is_file():
        return (
            f"{path}: is not a TensorFlow checkpoint ({index.name} is not beside it); give a prefix, such as "
            "'folder/model.ckpt-30000', with its .index and .data files in the folder"
        )
    nearby = ", ".join(other.name for other in _prefixes(prefix.parent)[:5]) or "none"
    return (
        f"{path}: no such checkpoint ({index.name} is missing); give the prefix of one with .index and .data "
        f"files; checkpoints in this folder: {nearby}"
    )


_REFETCH = "fetch or copy the checkpoint again"


class VariableKind(Enum):
    """Role of a variable in a training checkpoint; only a ``WEIGHT`` belongs to the model."""

    WEIGHT = "weight"
    MOMENTUM = "momentum"
    EMA = "moving average"
    GLOBAL_STEP = "global step"
    OTHER_SLOT = "optimizer state"


# TensorFlow appends the name of an optimizer's slot to that of its variable; a second slot gets _1.
_KINDS = (
    (re.compile(r"(^|/)global_step$"), VariableKind.GLOBAL_STEP),
    (re.compile(r"/Momentum(_\d+)?$"), VariableKind.MOMENTUM),
    (re.compile(r"/ExponentialMovingAverage(_\d+)?$"), VariableKind.EMA),
    (re.compile(r"/(RMSProp|Adam|AdaMax|Adagrad|Adadelta|Ftrl|AdaFactor)(_\d+)?$"), VariableKind.OTHER_SLOT),
    (re.compile(r"(^|/)beta[12]_power(_\d+)?$"), VariableKind.OTHER_SLOT),
)


def classify(name: str) -> VariableKind:
    """Return the role of a variable by its name."""
    return next((kind for pattern, kind in _KINDS if pattern.search(name)), VariableKind.WEIGHT)


@dataclass(frozen=True)
class TensorFlowCheckpoint:
    """An open checkpoint: its index is read and verified, and values are read on request.

    Attributes:
        path: prefix of the checkpoint, such as ``folder/model.ckpt-30000``.
    """

    path: Path
    _entries: Mapping[str, BundleEntry]
    _shards: Mapping[int, Path]

    @classmethod
    def open(cls, path: str | Path) -> TensorFlowCheckpoint:
        """Open a checkpoint by its prefix, one of its files, or its folder.

        Raises:
            WeightsError: there is no checkpoint, a file is missing, cut short or damaged, or the kind is not supported
                (V1, partitioned variables).
        """
        try:
            prefix = find_prefix(path)
        except OSError as error:
            raise WeightsError(f"{path}: cannot be read ({error}); give a readable checkpoint") from error
        entries, count = _read_index(index_path(prefix))
        shards = {number: shard_path(prefix, number, count) for number in {e.shard for e in entries.values()}}
        for number, shard in sorted(shards.items()):
            needed = max(e.offset + e.size for e in entries.values() if e.shard == number)
            _check_size(shard, needed)
        return cls(prefix, entries, shards)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all variables, sorted."""
        return tuple(sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        """Return whether there is a variable of that name."""
        return name in self._entries

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a variable, in TensorFlow's order of axes.

        Raises:
            WeightsError: there is no such variable.
        """
        return self._entry(name).shape

    def dtype(self, name: str) -> torch.dtype:
        """Return the element type of a variable.

        Raises:
            WeightsError: there is no such variable, or its type cannot be read.
        """
        entry = self._entry(name)
        if entry.dtype is None:
            allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in TORCH_DTYPES.values())
            raise WeightsError(
                f"{index_path(self.path)}: variable '{name}' is of type {entry.dtype_name}; only {allowed} can be "
                "read; leave it out"
            )
        return entry.dtype

    def read(self, name: str) -> Tensor:
        """Read the values of a variable and verify their checksum.

        Returns:
            A tensor of the variable's type and shape, in TensorFlow's order of axes.

        Raises:
            WeightsError: there is no such variable, its type cannot be read, or its bytes are damaged.
        """
        entry, dtype = self._entry(name), self.dtype(name)
        shard = self._shards[entry.shard]
        try:
            with shard.open("rb") as file:
                file.seek(entry.offset)
                values = file.read(entry.size)
        except OSError as error:
            raise WeightsError(f"{shard}: cannot be read ({error}); {_REFETCH}") from error
        if masked_crc32c(values) != entry.crc32c:
            raise WeightsError(
                f"{shard}: the checksum of variable '{name}' ({entry.size} bytes at byte {entry.offset}) does "
                f"not match its values; the file is damaged or of another checkpoint; {_REFETCH}"
            )
        # torch refuses empty buffers, and tensors need the writable memory of a bytearray.
        flat = torch.frombuffer(bytearray(values), dtype=dtype) if values else torch.empty(0, dtype=dtype)
        return flat.reshape(entry.shape)

    def _entry(self, name: str) -> BundleEntry:
        if name not in self._entries:
            raise WeightsError(
                f"{index_path(self.path)}: no variable '{name}' among its {len(self._entries)}; is this the "
                "checkpoint of another model?"
            )
        return self._entries[name]


def _read_index(path: Path) -> tuple[dict[str, BundleEntry], int]:
    """Return the variables by name, and the number of data files."""
    try:
        table = read_table(path)
        if b"" not in table:
            raise MalformedError("it has no header")
        count = parse_shard_count(table.pop(b""))
        return {_decode_name(key): _parse(key, value, count) for key, value in table.items()}, count
    except MalformedError as error:
        remedy = V1_REMEDY if "V1" in str(error) else _REFETCH
        raise WeightsError(f"{path}: cannot be read as a TensorFlow V2 index: {error}; {remedy}") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error}); give a readable file") from error


def _parse(key: bytes, value: bytes, shard_count: int) -> BundleEntry:
    try:
        entry = parse_entry(value)
        if entry.shard >= shard_count:
            raise MalformedError(f"data file {entry.shard} is named, but there are {shard_count}")
    except MalformedError as error:
        raise MalformedError(f"variable '{_decode_name(key)}': {error}") from error
    return entry


def _decode_name(key: bytes) -> str:
    try:
        return key.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(f"{key!r} is not the name of a variable") from error


def _check_size(shard: Path, needed: int) -> None:
    if not shard.is_file():
        raise WeightsError(f"{shard}: missing, though the checkpoint's index names it; copy it beside the .index file")
    size = shard.stat().st_size
    if size < needed:
        raise WeightsError(f"{shard}: has {size} bytes, but the index needs {needed}; it is cut short; {_REFETCH}")
