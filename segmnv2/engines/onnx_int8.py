"""The ONNX graph in 8 bits, in the form that ONNX Runtime has fast kernels for.

The network as an ONNX graph.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from segmnv2.engines.int8 import import_nncf, quantize_graph
from segmnv2.engines.process import quiet

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


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
    with tempfile.TemporaryDirectory() as folder, quiet():
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


ROUNDING = 1e-3
"""Share of its range by which a quantizer may seem to leave the bounds of the clamp before it."""


def quantize_onnx(graph: bytes, name: str, inputs: Sequence[np.ndarray], floats: Sequence[str] = ()) -> bytes:
    """Return a graph with 8-bit weights and activations.

    ONNX Runtime fuses a convolution with its quantizers into one integer kernel if nothing stands between them and all
    activations are unsigned with one scale for all channels. So clamps (ReLU, ReLU6) that a quantizer repeats are left
    out, and signed levels are shifted by 128; neither changes a result.

    Args:
        graph: ONNX file with batch norms folded.
        name: of its input.
        inputs: arrays to calibrate on.
        floats: names of layers whose convolutions stay in float.
    """
    import onnx

    nncf = import_nncf()
    from nncf.common.quantization.structs import QuantizationScheme
    from nncf.quantization.advanced_parameters import QuantizationParameters
    from onnxscript.optimizer import remove_unused_nodes

    activations = QuantizationParameters(mode=QuantizationScheme.ASYMMETRIC, per_channel=False)
    parameters = nncf.AdvancedQuantizationParameters(
        activations_quantization_params=activations, overflow_fix=nncf.OverflowFix.DISABLE
    )
    feeds = [{name: each} for each in inputs]
    prepared = _prepare(graph)
    with _inputs_named_once():
        quantized = quantize_graph(prepared, feeds, advanced_parameters=parameters)
    _leave_in_float(quantized, prepared, tuple(floats))
    _drop_clamps(quantized)
    _shift_signed(quantized)
    remove_unused_nodes(quantized)  # and the constants that only they read
    onnx.checker.check_model(quantized)
    content: bytes = quantized.SerializeToString()
    return content


@contextmanager
def _inputs_named_once() -> Iterator[None]:
    """Let parts of a graph have each input once: NNCF 3.4 names a tensor again for each branch that reads it.

    ONNX Runtime refuses such parts, of which bias correction makes one where ASPP begins.
    """
    from onnx.utils import Extractor

    extract = Extractor.extract_model

    def extract_once(self: Extractor, inputs: list[str], outputs: list[str]) -> ModelProto:
        return extract(self, list(dict.fromkeys(inputs)), list(dict.fromkeys(outputs)))

    Extractor.extract_model = extract_once  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Extractor.extract_model = extract  # type: ignore[method-assign]


def _prepare(graph: bytes) -> ModelProto:
    """Return the graph with constants folded and shapes inferred, as quantizers need it."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(graph)
        quant_pre_process(path, path, skip_symbolic_shape=True)
        return onnx.load(path)


def _leave_in_float(quantized: ModelProto, graph: ModelProto, layers: tuple[str, ...]) -> None:
    """Give some layers' convolutions their own weights and unrounded inputs back.

    NNCF 3.4 can leave layers out itself, but then its bias correction does not find its way through this graph.

    Args:
        quantized: what it made of the graph.
        graph: as it was before.
        layers: what the names of the weights begin with.
    """
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    chosen = {node.name: node for node in graph.graph.node if node.op_type == "Conv"}
    writers = {name: node for node in quantized.graph.node for name in node.output}
    for node in quantized.graph.node:
        own = chosen.get(node.name)
        if own is None or not own.input[1].startswith(layers):
            continue
        levels = writers[node.input[0]]
        node.input[0] = writers[levels.input[0]].input[0]
        del node.input[1:]
        for name in own.input[1:]:  # the weights, and a bias unless it is zero
            node.input.append(f"{name}/float")
            quantized.graph.initializer.add().CopyFrom(tensors[name])
            quantized.graph.initializer[-1].name = node.input[-1]


def _drop_clamps(model: ModelProto) -> None:
    """Take out each ReLU and clip that only feeds quantizers which clamp as it does."""
    constants = _constants(model)
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    for node in list(model.graph.node):
        if node.op_type not in ("Clip", "Relu"):
            continue
        low, high = 0.0, np.inf
        if node.op_type == "Clip":
            low, high = (float(constants[name]) for name in node.input[1:3])
        users = readers[node.output[0]]
        if users and all(_clamps(user, constants, low, high) for user in users):
            for user in users:
                user.input[0] = node.input[0]
            model.graph.node.remove(node)


def _clamps(node: NodeProto, constants: dict[str, np.ndarray], low: float, high: float) -> bool:
    """Return whether a node is a quantizer whose range lies in ``low`` to ``high``."""
    if node.op_type != "QuantizeLinear":
        return False
    scale, zero = constants[node.input[1]], constants[node.input[2]]
    levels = np.iinfo(zero.dtype)
    least = (scale * (levels.min - zero.astype(int))).min()
    most = (scale * (levels.max - zero.astype(int))).max()
    slack = ROUNDING * float(most - least)
    return bool(least >= low - slack and most <= high + slack)


def _shift_signed(model: ModelProto) -> None:
    """Let activations be unsigned: level and zero point move by 128 together."""
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or node.input[0] in tensors:
            continue
        tensor = tensors[node.input[2]]
        zero = numpy_helper.to_array(tensor)
        if zero.dtype == np.int8:
            tensor.CopyFrom(numpy_helper.from_array((zero.astype(np.int16) + 128).astype(np.uint8), tensor.name))
    del model.graph.value_info[:]  # which still describes signed numbers


def _constants(model: ModelProto) -> dict[str, np.ndarray]:
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
