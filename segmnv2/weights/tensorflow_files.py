"""Files of a TensorFlow V2 checkpoint: ``PREFIX.index`` and ``PREFIX.data-00000-of-00001``."""

from __future__ import annotations

import re
from pathlib import Path

from segmnv2.errors import WeightsError
from segmnv2.weights.tensor_bundle_table import ends_like_table

_SUFFIX = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_LATEST = re.compile(r'^model_checkpoint_path:\s*"(.+)"\s*$', re.MULTILINE)

V1_REMEDY = (
    "V1 checkpoints are not supported: restore it in TensorFlow with tf.compat.v1.train.Saver and save it "
    "with tf.compat.v1.train.Saver(write_version=tf.compat.v1.train.SaverDef.V2)"
)


def index_path(prefix: Path) -> Path:
    """Path of the index of the checkpoint named ``prefix``."""
    return prefix.with_name(f"{prefix.name}.index")


def shard_path(prefix: Path, shard: int, count: int) -> Path:
    """Path of data file ``shard`` (from 0) of ``count``."""
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{count:05d}")


def find_prefix(path: str | Path) -> Path:
    """Find the checkpoint that a user means.

    Args:
        path: the prefix (``model.ckpt-30000``), one of its files, or a folder: of one checkpoint, or of several with
            TensorFlow's ``checkpoint`` file that names the latest.

    Returns:
        The prefix, whose index exists.

    Raises:
        WeightsError: no checkpoint there, several without a latest, or one of the V1 format.
    """
    path = Path(path)
    if path.is_dir():
        return _prefix_in_folder(path)
    prefix = path.with_name(_SUFFIX.sub("", path.name))
    if index_path(prefix).is_file():
        return prefix
    raise WeightsError(_why_no_index(path, prefix))


def _prefix_in_folder(folder: Path) -> Path:
    prefixes = _prefixes(folder)
    if len(prefixes) == 1:
        return prefixes[0]
    if not prefixes:
        raise WeightsError(
            f"{folder}: no TensorFlow V2 checkpoint here (no *.index file); give the folder or prefix of one, "
            "as 'folder/model.ckpt-30000'"
        )
    names = ", ".join(prefix.name for prefix in prefixes)
    state = folder / "checkpoint"
    if not state.is_file():
        raise WeightsError(
            f"{folder}: holds several checkpoints ({names}) and no file 'checkpoint' that names the latest; "
            f"give one of them, as '{prefixes[-1]}'"
        )
    found = _LATEST.search(state.read_text(encoding="utf-8", errors="replace"))
    # Only the name counts: a path within may be of the machine that wrote it.
    latest = re.split(r"[/\\]", found.group(1))[-1] if found else None
    if latest not in [prefix.name for prefix in prefixes]:
        raise WeightsError(
            f"{state}: names {latest!r} as the latest checkpoint; the folder holds {names}; give one of them, "
            f"as '{prefixes[-1]}'"
        )
    return folder / latest


def _prefixes(folder: Path) -> list[Path]:
    return sorted(path.with_suffix("") for path in folder.glob("*.index") if path.is_file())


def _why_no_index(path: Path, prefix: Path) -> str:
    """Say what stands where the index of ``prefix`` should, and what to do about it."""
    index = index_path(prefix)
    v1_shards = sorted(prefix.parent.glob(f"{prefix.name}-?????-of-?????")) if prefix.name else []
    for candidate in (path, prefix, *v1_shards[:1]):
        if candidate.is_file() and ends_like_table(candidate):
            return f"{candidate}: is a V1 checkpoint; {V1_REMEDY}"
    if sorted(prefix.parent.glob(f"{prefix.name}.data-*")):
        return f"{index}: missing, though the checkpoint's data is there; copy the .index file beside it"
    if path.is_file():
        return (
            f"{path}: is not a TensorFlow checkpoint ({index.name} is not beside it); give its prefix, as "
            "'folder/model.ckpt-30000', with its .index and .data files in the folder"
        )
    nearby = ", ".join(found.name for found in _prefixes(prefix.parent)[:5]) or "none"
    return (
        f"{path}: no such checkpoint ({index.name} is missing); give the prefix of one with .index and .data "
        f"files; checkpoints in this folder: {nearby}"
    )
