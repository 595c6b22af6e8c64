"""Conversions to ONNX that all tests of a run share: the same network is converted once, since that takes seconds."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from torch import Tensor, nn


@contextmanager
def shared_conversions(folder: Path) -> Iterator[None]:
    """Let ``torch.onnx.export`` keep its files in a folder and copy them for equal networks, examples and options."""
    convert = torch.onnx.export

    def export(network: nn.Module, examples: tuple[Tensor, ...], path: Path, **options: Any) -> Any:
        if not options.get("dynamo"):
            return convert(network, examples, path, **options)
        shapes = [(each.shape, each.dtype) for each in examples]
        kept = folder / f"{fingerprint(network, shapes, options)}.onnx"
        with FileLock(f"{kept}.lock"):
            if not kept.exists():
                convert(network, examples, path, **options)
                shutil.copy(path, kept.with_suffix(".partial"))
                kept.with_suffix(".partial").rename(kept)
        return shutil.copy(kept, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", export)
        yield


def fingerprint(network: nn.Module, *options: Any) -> str:
    """Return a checksum of a network's modules with their plain attributes, of its numbers, and of options."""
    plain = (bool, int, float, str, tuple, list, type(None))
    found = hashlib.sha256(repr(options).encode())
    for name, module in network.named_modules():
        values = sorted((key, repr(value)) for key, value in vars(module).items() if isinstance(value, plain))
        found.update(repr((name, type(module).__module__, type(module).__qualname__, values)).encode())
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        found.update(repr((name, tensor.shape, tensor.dtype)).encode())
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()
