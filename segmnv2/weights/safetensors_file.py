"""Files of tensors: safetensors with JSON metadata, written whole or not at all, and PyTorch's state dicts.

Reading never runs code from a file. Files of other kinds are refused with a message that explains how to use them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from segmnv2.errors import SegmnError, WeightsError
from segmnv2.files.atomic import atomic_path
from segmnv2.files.documents import dump_json, parse_json

EXPORTS = {
    ".onnx": "ONNX",
    ".xml": "OpenVINO",
    ".pt2": "torch.export",
    ".pte": "ExecuTorch",
    ".tflite": "LiteRT or TensorFlow Lite",
    ".mlpackage": "Core ML",
    ".pb": "TensorFlow's frozen graph",
}
CHECKPOINTS = (".ckpt", ".pth", ".pt", ".index", ".meta", ".data-00000-of-00001")


def describe_foreign(path: str | Path) -> str | None:
    """Return a text on the kind of another program's file and its use, or ``None`` if the suffix is unknown."""
    suffix = Path(path).suffix.lower()
    if suffix in EXPORTS:
        return (
            f"is an exported file ({EXPORTS[suffix]}), from which no model can be rebuilt; give the weights from which "
            "it was exported, or run it in its own runtime (docs/export.md); `segmnv2 verify` compares the two"
        )
    if suffix in CHECKPOINTS:
        return f"is a checkpoint of another program; convert it first: segmnv2 import {path} --out weights.safetensors"
    return None


HEADER, METADATA = 8, "__metadata__"
"""Size in bytes of a file's first number, which is the length of its header, and key of the metadata in the header."""


def write_safetensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Path:
    """Write tensors and metadata; an existing file is replaced only when the new one is complete on disk.

    Tensors may be on any device. Each value of the metadata is stored under its key as JSON text.

    Raises:
        WeightsError: the folder cannot be created or written, or the disk is full.
    """
    content = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = {key: dump_json(value) for key, value in metadata.items()}
    try:
        with atomic_path(path, durable=True) as partial:
            save_file(content, partial, metadata=text)
            _sort_metadata(partial)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path}: cannot be written ({error}); choose a folder with room and write access"
        ) from error
    return Path(path)


def _sort_metadata(path: Path) -> None:
    """Sort the metadata of a file by its keys, because safetensors writes them in a random order."""
    with path.open("rb+") as file:
        length = int.from_bytes(file.read(HEADER), "little")
        header = json.loads(file.read(length))
        header |= {METADATA: dict(sorted(header[METADATA].items()))} if METADATA in header else {}
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        assert len(text) <= length, "the same values in another order"
        file.seek(HEADER)
        file.write(text.ljust(length))


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors (on the CPU) and metadata, as :func:`write_safetensors` wrote them.

    Metadata values that are not JSON, such as those of other programs, are returned as text.

    Raises:
        WeightsError: the file is missing, truncated or not in safetensors format.
    """
    with _opened(Path(path)) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no dict
        metadata = file.metadata() or {}
    return tensors, {key: _parse(value) for key, value in metadata.items()}


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read only the metadata, as :func:`read_safetensors` does.

    Raises:
        WeightsError: the file is missing, truncated or not in safetensors format.
    """
    with _opened(Path(path)) as file:
        return {key: _parse(value) for key, value in (file.metadata() or {}).items()}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if path.exists() and (foreign := describe_foreign(path)):
        raise WeightsError(f"{path}: {foreign}")
    if not path.is_file():
        hint = "it is a folder" if path.is_dir() else "there is no such file"
        raise WeightsError(f"{path}: {hint}; give a .safetensors file that `segmnv2 import` or `segmnv2 train` wrote")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: is truncated or not a safetensors file ({error}); copy it again, or convert the original "
            "checkpoint with `segmnv2 import`"
        ) from error


def _parse(text: str) -> Any:
    try:
        return parse_json(text, "metadata", "")
    except SegmnError:
        return text


WRAPPERS = ("_orig_mod.", "module.")
"""Prefixes that torch.compile and DistributedDataParallel put before names."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running any code in it.

    Raises:
        WeightsError: the file is damaged, or holds other data than named tensors.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of every kind for damaged bytes
        raise WeightsError(
            f"{path}: is damaged or holds more than tensors ({type(error).__name__}); save only its state dict, such "
            "as torch.save(checkpoint['model'], 'weights.pth'), or download it again"
        ) from error
    state_dict = _unwrap(path, tensors)
    size = path.stat().st_size
    refused = [name for name, tensor in state_dict.items() if not _is_plain(tensor, size)]
    if refused:
        raise WeightsError(
            f"{path}: {len(refused)} tensors are sparse, quantized, or larger than the file, the first is "
            f"{refused[0]!r}; save dense tensors, or download the file again"
        )
    return state_dict


def _is_plain(tensor: Tensor, size: int) -> bool:
    """Return whether a tensor is dense and small enough to be stored in a file of ``size`` bytes."""
    dense = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return dense and tensor.numel() * tensor.element_size() <= size


def _is_state_dict(value: Any) -> bool:
    items = value.items() if isinstance(value, dict) else ()
    return bool(items) and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in items)


def _unwrap(path: Path, content: Any) -> dict[str, Tensor]:
    """Return the only state dict of a checkpoint, at its top level or under a key, without :data:`WRAPPERS`."""
    if not _is_state_dict(content):
        items = content.items() if isinstance(content, dict) else ()
        inside = {key: value for key, value in items if _is_state_dict(value)}
        if len(inside) != 1:
            fault = f"state dicts under {', '.join(map(repr, inside))}" if inside else "more than named tensors"
            key = next(iter(inside), "model")
            raise WeightsError(f"{path}: holds {fault}; save one alone: torch.save(checkpoint[{key!r}], 'weights.pth')")
        (content,) = inside.values()
    while prefix := next((w for w in WRAPPERS if all(name.startswith(w) for name in content)), ""):
        content = {name.removeprefix(prefix): tensor for name, tensor in content.items()}
    return dict(content)
