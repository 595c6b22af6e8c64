"""Engines of one network with several numbers of streams, converted once, which is what takes the time."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from segmnv2.engines import onnx_runtime, openvino
from segmnv2.engines.backend import Backend
from segmnv2.engines.pytorch import PyTorchBackend
from segmnv2.engines.selection import ENGINES
from segmnv2.models.segmenter import Segmenter

STREAMING = [name for name, engine in ENGINES.items() if engine.streams]


def build_engines(model: Segmenter, name: str, streams: Sequence[int]) -> list[Backend]:
    """Return an engine for each number of streams, each with one thread."""
    if name == "onnxruntime":
        file = onnx_runtime.grid_graph(model)
        return [onnx_runtime.OnnxRuntimeBackend(model, file, "float32", number, number) for number in streams]
    if name == "openvino":
        graph = openvino.grid_model(model)
        return [openvino.OpenVinoBackend(model, graph, "float32", number, number) for number in streams]
    assert name == "torch"
    return [PyTorchBackend(model, "float32", number, torch.device("cpu"), number) for number in streams]
