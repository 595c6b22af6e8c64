"""ONNX Runtime as the engine, the model as an ONNX graph, and its int8 form for ONNX Runtime's fast kernels."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.engines.backend import Backend, Calibration, Precision
from segmnv2.engines.int8 import calibration_arrays, float_layers, import_nncf, quantize_graph
from segmnv2.engines.pytorch import InferenceNetwork, check_other_size
from segmnv2.models.segmenter import Segmenter
from segmnv2.telemetry import quiet

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto
    from onnxruntime import InferenceSession

IMAGE, INPUT, OUTPUT = "image", "pixels", "logits"
DYNAMIC_AXES = {0: "batch", 2: "height", 3: "width"}


class OnnxRuntimeBackend(Backend):
    """Runs the folded model with ONNX Runtime on the CPU."""

    name: ClassVar[str] = "onnxruntime"
    opened: ClassVar[tuple[str, ...]] = ("_session",)

    def convert(self, model: Segmenter, calibration: Calibration) -> None:
        """Create the ONNX graph."""
        self._graph = take_channels_last(build_graph(model, self.precision, calibration))

    def open(self) -> None:
        """Open a session; each call computes in the calling thread and in the session's own threads."""
        self._session = open_session(self._graph, max(1, self.threads - self.streams + 1))

    def run(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k i j"]:
        """Return the logits."""
        image = pixels.permute(0, 2, 3, 1).contiguous()  # no copy if pixels are channels last in memory
        (logits,) = self._session.run([OUTPUT], {IMAGE: image.numpy()})
        return torch.from_numpy(logits)


def grid_graph(model: Segmenter) -> bytes:
    """Return the ONNX file of a model up to its logits at output stride, for images of any size.

    Its input ``pixels`` is RGB (batch, 3, height, width), float32 0..255, sides k * output_stride + 1.

    Raises:
        ConfigError: it would compute other logits than the model.
    """
    side = 8 * model.output_stride + 1
    example = torch.zeros(2, 3, side, side + model.output_stride)  # unequal sides stay two different axes
    network = InferenceNetwork(model)
    graph = onnx_bytes(network, (example,), [INPUT], [OUTPUT], (DYNAMIC_AXES,))
    session = open_session(graph, threads=1)

    def run(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k i j"]:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: pixels.numpy()})[0])

    check_other_size(run, network, model.output_stride, "onnx")
    return graph


def build_graph(model: Segmenter, precision: Precision, calibration: Calibration = None) -> bytes:
    """Return :func:`grid_graph` of a model; in int8 its weights and activations have 8 bits."""
    if precision != "int8":
        return grid_graph(model)
    arrays = calibration_arrays(calibration)
    return quantize_onnx(grid_graph(model), INPUT, arrays, float_layers(model))


def take_channels_last(graph: bytes) -> bytes:
    """Return a graph whose input is :data:`IMAGE` (batch, height, width, 3), which the engine itself reorders."""
    import onnx

    model = onnx.load_from_string(graph)
    model.graph.input.remove(next(each for each in model.graph.input if each.name == INPUT))
    shape: list[str | int | None] = ["batch", "height", "width", 3]
    model.graph.input.append(onnx.helper.make_tensor_value_info(IMAGE, onnx.TensorProto.FLOAT, shape))
    model.graph.node.insert(0, onnx.helper.make_node("Transpose", [IMAGE], [INPUT], perm=[0, 3, 1, 2]))
    content: bytes = model.SerializeToString()
    return content


def open_session(graph: bytes, threads: int) -> InferenceSession:
    """Return a session on the CPU whose threads sleep between calls, so that PyTorch's threads can work meanwhile.

    x86 CPUs without VNNI add pairs of 8-bit products in 16 bits, where large sums saturate. In int8 this changed 1.7 %
    of the labels, and only 0.6 % with the option ``session.x64quantprecision``. On CPUs with VNNI and in other
    precisions the option has no effect.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # needed if it was imported before this library, and on Windows
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only: the exporter's redundant nodes cause warnings
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


OPSET = 18


def onnx_bytes(
    network: nn.Module,
    example: tuple[torch.Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic: tuple[dict[int, str], ...] | None = None,
) -> bytes:
    """Return the ONNX file of a model in evaluation mode.

    Args:
        network: the model.
        example: example inputs, with the types and shapes of the exported inputs.
        inputs: names of the inputs.
        outputs: names of the outputs.
        dynamic: for each input the axes that may have any size, with their names; none by default.
    """
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            network,
            example,
            path,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=dynamic,
            external_data=False,
            verbose=False,
        )
        return path.read_bytes()


ROUNDING = 1e-3  # a quantizer may exceed the bounds of the clamp before it by this share of its range


def quantize_onnx(graph: bytes, name: str, inputs: Sequence[np.ndarray], floats: Sequence[str] = ()) -> bytes:
    """Return a graph with 8-bit weights and activations.

    ONNX Runtime fuses a convolution with its quantizers into one integer kernel under two conditions: there is no node
    between them, and all activations are unsigned with one scale for all channels. So clamps (ReLU, ReLU6) that a
    quantizer repeats are removed, and signed levels are shifted by 128. Both keep all results unchanged.

    Args:
        graph: content of an ONNX file with folded batch norms.
        name: name of the graph's input.
        inputs: calibration arrays.
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
    with _extracting_inputs_once():
        quantized = quantize_graph(prepared, feeds, advanced_parameters=parameters)
    _restore_float(quantized, prepared, tuple(floats))
    _drop_clamps(quantized)
    _shift_signed(quantized)
    remove_unused_nodes(quantized)  # also removes their constants
    onnx.checker.check_model(quantized)
    content: bytes = quantized.SerializeToString()
    return content


@contextmanager
def _extracting_inputs_once() -> Iterator[None]:
    """Make NNCF name each input of an extracted subgraph only once.

    NNCF 3.4 repeats the name for each branch that reads the input, and ONNX Runtime refuses such a subgraph. Bias
    correction extracts one at the start of ASPP.
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
    """Return the graph with folded constants and inferred shapes, as quantizers need it."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(graph)
        quant_pre_process(path, path, skip_symbolic_shape=True)
        return onnx.load(path)


def _restore_float(quantized: ModelProto, graph: ModelProto, layers: tuple[str, ...]) -> None:
    """Undo the quantization of convolutions whose names of weights start with one of ``layers``.

    NNCF 3.4 can skip layers itself, but then its bias correction fails on this graph.
    """
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    convolutions = {node.name: node for node in graph.graph.node if node.op_type == "Conv"}
    writers = {name: node for node in quantized.graph.node for name in node.output}
    for node in quantized.graph.node:
        original = convolutions.get(node.name)
        if original is None or not original.input[1].startswith(layers):
            continue
        levels = writers[node.input[0]]
        node.input[0] = writers[levels.input[0]].input[0]
        del node.input[1:]
        for name in original.input[1:]:  # the weights, and a bias unless it is zero
            node.input.append(f"{name}/float")
            quantized.graph.initializer.add().CopyFrom(tensors[name])
            quantized.graph.initializer[-1].name = node.input[-1]


def _drop_clamps(model: ModelProto) -> None:
    """Remove each ReLU and Clip whose only readers are quantizers that clamp to the same range."""
    from onnx import numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
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
    """Return whether a node is a quantizer whose range is within ``low`` to ``high``."""
    if node.op_type != "QuantizeLinear":
        return False
    scale, zero = constants[node.input[1]], constants[node.input[2]]
    levels = np.iinfo(zero.dtype)
    least = (scale * (levels.min - zero.astype(int))).min()
    most = (scale * (levels.max - zero.astype(int))).max()
    slack = ROUNDING * float(most - least)
    return bool(least >= low - slack and most <= high + slack)


def _shift_signed(model: ModelProto) -> None:
    """Make activations unsigned by adding 128 to the levels and zero points."""
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or node.input[0] in tensors:
            continue
        tensor = tensors[node.input[2]]
        zero = numpy_helper.to_array(tensor)
        if zero.dtype == np.int8:
            tensor.CopyFrom(numpy_helper.from_array((zero.astype(np.int16) + 128).astype(np.uint8), tensor.name))
    del model.graph.value_info[:]  # it still describes signed numbers
