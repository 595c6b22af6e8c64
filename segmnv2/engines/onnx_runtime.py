"""ONNX Runtime as the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from segmnv2.engines.backend import Backend, Calibration, Precision
from segmnv2.engines.inference_network import InferenceNetwork
from segmnv2.engines.int8 import calibration_arrays, float_layers
from segmnv2.engines.onnx_int8 import onnx_bytes, quantize_onnx
from segmnv2.models.segmenter import Segmenter

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


IMAGE, INPUT, OUTPUT = "image", "pixels", "logits"
DYNAMIC_AXES = {0: "batch", 2: "height", 3: "width"}


class OnnxRuntimeBackend(Backend):
    """Runs the folded network with ONNX Runtime on the CPU."""

    name: ClassVar[str] = "onnxruntime"
    opened: ClassVar[tuple[str, ...]] = ("_session",)

    def convert(self, model: Segmenter, calibration: Calibration) -> None:
        """Make the ONNX file."""
        self._graph = take_channels_last(build_graph(model, self.precision, calibration))

    def open(self) -> None:
        """Open a session: each call computes in its own thread, helped by those that the session has besides."""
        self._session = open_session(self._graph, max(1, self.threads - self.streams + 1))

    def run(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k i j"]:
        """Run the network."""
        image = pixels.permute(0, 2, 3, 1).contiguous()  # as it lies in memory already
        (logits,) = self._session.run([OUTPUT], {IMAGE: image.numpy()})
        return torch.from_numpy(logits)


def grid_graph(model: Segmenter) -> bytes:
    """Return the ONNX file of a network up to its logits at output stride, for images of any size.

    Its input ``pixels`` is RGB (batch, 3, height, width), float32 0..255, sides k * output_stride + 1.
    """
    side = 8 * model.output_stride + 1
    example = torch.zeros(2, 3, side, side + model.output_stride)  # unequal sides, so that they are not taken for one
    return onnx_bytes(InferenceNetwork(model), example, inputs=[INPUT], outputs=[OUTPUT], dynamic=DYNAMIC_AXES)


def build_graph(model: Segmenter, precision: Precision, calibration: Calibration = None) -> bytes:
    """Return :func:`grid_graph`, in int8 with 8-bit weights and activations.

    Raises:
        ConfigError: int8 without calibration.
    """
    if precision != "int8":
        return grid_graph(model)
    arrays = calibration_arrays(calibration)
    return quantize_onnx(grid_graph(model), INPUT, arrays, float_layers(model))


def take_channels_last(graph: bytes) -> bytes:
    """Return a graph whose input is :data:`IMAGE` (batch, height, width, 3), reordered by the engine itself."""
    import onnx

    model = onnx.load_from_string(graph)
    model.graph.input.remove(next(each for each in model.graph.input if each.name == INPUT))
    shape: list[str | int | None] = ["batch", "height", "width", 3]
    model.graph.input.append(onnx.helper.make_tensor_value_info(IMAGE, onnx.TensorProto.FLOAT, shape))
    model.graph.node.insert(0, onnx.helper.make_node("Transpose", [IMAGE], [INPUT], perm=[0, 3, 1, 2]))
    content: bytes = model.SerializeToString()
    return content


def open_session(graph: bytes, threads: int) -> InferenceSession:
    """Return a session on the CPU whose threads sleep between calls, as PyTorch's are needed then.

    x86 CPUs without VNNI add products of 8 bits in pairs of 16 bits, where large ones saturate: 1.7 % of labels
    changed in int8, and 0.6 % in the mode for precision. CPUs with VNNI and other precisions do not notice it.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # also where it was imported before this library, and on Windows
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors; the exporter's redundant nodes are reported as warnings
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
