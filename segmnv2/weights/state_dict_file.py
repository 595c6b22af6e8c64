"""State dicts in PyTorch's files or in safetensors, read without running any code in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segmnv2.errors import WeightsError
from segmnv2.weights.safetensors_file import read_safetensors

WRAPPERS = ("_orig_mod.", "module.")
"""Prefixes that torch.compile and DistributedDataParallel put before names."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running any code in it.

    Raises:
        WeightsError: the file is damaged, or holds anything but named tensors.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch meets damaged bytes with errors of every kind
        raise WeightsError(
            f"{path}: is damaged or holds more than tensors ({type(error).__name__}); save its state dict alone, "
            "as torch.save(checkpoint['model'], 'weights.pth'), or fetch it again"
        ) from error
    found = _unwrap(path, tensors)
    size = path.stat().st_size
    odd = [name for name, tensor in found.items() if not _is_plain(tensor, size)]
    if odd:
        raise WeightsError(
            f"{path}: {len(odd)} tensors are sparse, quantized, or larger than the file, the first is {odd[0]!r}; "
            "save dense tensors, or fetch it again"
        )
    return found


def _is_plain(tensor: Tensor, size: int) -> bool:
    """Return whether a tensor has all of its values in a file of that many bytes."""
    dense = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return dense and tensor.numel() * tensor.element_size() <= size


def _is_state_dict(value: Any) -> bool:
    items = value.items() if isinstance(value, dict) else ()
    return bool(items) and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in items)


def _unwrap(path: Path, content: Any) -> dict[str, Tensor]:
    """Return the state dict that a checkpoint is, or holds alone under a key, without the prefixes of wrappers."""
    if not _is_state_dict(content):
        items = content.items() if isinstance(content, dict) else ()
        inside = {key: value for key, value in items if _is_state_dict(value)}
        if len(inside) != 1:
            found = f"state dicts under {', '.join(map(repr, inside))}" if inside else "more than named tensors"
            key = next(iter(inside), "model")
            raise WeightsError(f"{path}: holds {found}; save one alone: torch.save(checkpoint[{key!r}], 'weights.pth')")
        (content,) = inside.values()
    while prefix := next((each for each in WRAPPERS if all(name.startswith(each) for name in content)), ""):
        content = {name.removeprefix(prefix): tensor for name, tensor in content.items()}
    return dict(content)
