"""The network as an ONNX graph."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from segmnv2.backends.quiet import quiet_loggers

OPSET = 18


def onnx_bytes(
    network: nn.Module,
    example: torch.Tensor | tuple[torch.Tensor, ...],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic: Mapping[int, str] | tuple[Mapping[int, str], ...] | None = None,
) -> bytes:
    """Return the ONNX file of a network.

    Args:
        network: in evaluation mode.
        example: an input, or several, of the type and shape to export for.
        inputs: names of the inputs.
        outputs: names of the outputs.
        dynamic: axes of each input that may have any size, with their names; none by default.
    """
    examples = example if isinstance(example, tuple) else (example,)
    axes = (dynamic,) if isinstance(dynamic, Mapping) else dynamic
    shapes = None if axes is None else tuple(dict(each) for each in axes)
    with tempfile.TemporaryDirectory() as folder, quiet_loggers("torch.onnx", "onnxscript", "onnx_ir"):
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            network,
            examples,
            path,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )
        return path.read_bytes()
