"""OpenVINO as the engine."""

from __future__ import annotations

import platform
import tempfile
import threading
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from segmnv2.engines.backend import Backend, Calibration, Precision
from segmnv2.engines.int8 import calibration_arrays, float_layers, import_nncf, quantize_graph
from segmnv2.engines.pytorch import InferenceNetwork, check_other_size
from segmnv2.models.segmenter import Segmenter

if TYPE_CHECKING:
    import openvino


HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}  # number format of layers that are not quantized
KEPT_SHAPES = 8  # number of image sizes whose compiled models are kept


class OpenVinoBackend(Backend):
    """Runs the folded model with OpenVINO on the CPU."""

    name: ClassVar[str] = "openvino"
    opened: ClassVar[tuple[str, ...]] = ("_compiled", "_lock")

    def convert(self, model: Segmenter, calibration: Calibration) -> None:
        """Convert the model to OpenVINO's, which is compiled for each image size at its first use."""
        self._graph = take_channels_last(build_graph(model, self.precision, calibration, portable=False))

    def open(self) -> None:
        """Start without compiled models."""
        self._compiled: dict[tuple[int, ...], CompiledGraph] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_graph": _write_graph(self._graph)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state | {"_graph": openvino_core().read_model(*state["_graph"])})

    def run(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k i j"]:
        """Return the logits."""
        image = pixels.permute(0, 2, 3, 1).contiguous()  # no copy if pixels are channels last in memory
        return torch.from_numpy(self._compile(tuple(image.shape))(image.numpy()))

    def _compile(self, shape: tuple[int, ...]) -> CompiledGraph:
        """Return the model compiled for one shape; the last few are kept, because folders often have a few sizes."""
        with self._lock:
            if shape not in self._compiled:
                if len(self._compiled) == KEPT_SHAPES:
                    self._compiled.pop(next(iter(self._compiled)))
                self._compiled[shape] = CompiledGraph(self._graph, self.precision, self.threads, self.streams, shape)
            return self._compiled[shape]


def _write_graph(graph: openvino.Model) -> tuple[bytes, bytes]:
    """Return the contents of OpenVINO's two files of a model: its structure and its weights."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.xml"
        openvino.serialize(graph, path, path.with_suffix(".bin"))
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


class CompiledGraph:
    """A graph that is compiled for one input shape; several threads may call it at once."""

    def __init__(
        self, graph: openvino.Model, precision: Precision, threads: int, streams: int, shape: tuple[int, ...]
    ) -> None:
        """Compile a graph without changing it; ``streams`` simultaneous calls share the ``threads``."""
        fixed = graph.clone()
        fixed.reshape(list(shape))
        settings = {
            "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": HINTS[precision],
        }
        if streams > 1:
            settings["NUM_STREAMS"] = min(streams, threads)
        self._model = openvino_core().compile_model(fixed, "CPU", settings)
        self._idle: list[openvino.InferRequest] = []

    def __call__(self, pixels: Float32[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b k i j"]:
        """Return the logits, from a request that no other thread uses at the same time."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._model.create_infer_request()
        request.infer([pixels], share_inputs=True)
        logits: Float32[np.ndarray, "b k i j"] = request.get_output_tensor(0).data.copy()
        self._idle.append(request)
        return logits


@cache
def openvino_core() -> openvino.Core:
    """Return the only OpenVINO core of this process.

    Each core sets a stack for signal handlers in the calling thread, and at its end restores the previous stack. If
    that stack belongs to a core that no longer exists, the next signal, such as Ctrl-C, is a segmentation fault.
    """
    import openvino

    return openvino.Core()


def grid_model(model: Segmenter) -> openvino.Model:
    """Return a model up to its logits at output stride as OpenVINO's model, for images of any size.

    Its input is RGB (batch, 3, height, width), float32 0..255, sides k * output_stride + 1.

    Raises:
        ConfigError: it would compute other logits than the model.
    """
    import openvino

    side = 2 * model.output_stride + 1
    example, network = torch.zeros(1, 3, side, side), InferenceNetwork(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns about every size that becomes a constant
        # OpenVINO's own tracing compares two traces, whose operations differ in order if a head reads two maps.
        traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
        found: openvino.Model = openvino.convert_model(
            traced, example_input=example, input=[openvino.PartialShape([-1, 3, -1, -1])]
        )

    def run(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k i j"]:
        image = pixels.permute(0, 2, 3, 1).contiguous().numpy()
        return torch.from_numpy(CompiledGraph(take_channels_last(found), "float32", 1, 1, image.shape)(image))

    check_other_size(run, network, model.output_stride, "openvino")
    return found


def build_graph(
    model: Segmenter, precision: Precision, calibration: Calibration = None, *, portable: bool = True
) -> openvino.Model:
    """Return :func:`grid_model` of a model; in int8 its activations have 8 bits.

    x86 CPUs without VNNI add pairs of 8-bit products in 16 bits, where large sums saturate. Models with ASPP lost a
    fifth of their labels there. Weights of 7 bits, except in depthwise layers, exclude that and are less exact.

    Args:
        model: the model.
        precision: the precision.
        calibration: for int8.
        portable: whether the graph is also for other CPUs; then it has weights of 7 bits. Otherwise they have 8 bits
            where this CPU keeps enough labels with them.
    """
    if precision != "int8":
        return grid_model(model)
    nncf = import_nncf()
    arrays = calibration_arrays(calibration)
    graph = grid_model(model)
    names = [each.get_friendly_name() for each in graph.get_ops() if each.get_type_name() == "Convolution"]
    floats = [name for name in names if any(f"module.{layer}" in name for layer in float_layers(model))]

    def quantize(fix: Any) -> openvino.Model:
        parameters = nncf.AdvancedQuantizationParameters(overflow_fix=fix)
        quantized: openvino.Model = quantize_graph(graph.clone(), arrays, floats, advanced_parameters=parameters)
        return quantized

    if portable:
        return quantize(nncf.OverflowFix.ENABLE)
    eight_bits = quantize(nncf.OverflowFix.FIRST_LAYER)
    if platform.machine() not in ("x86_64", "AMD64") or torch.cpu._is_vnni_supported():
        return eight_bits
    images = arrays[:COMPARED]
    kept = _kept_labels(eight_bits, graph, images)
    if kept >= ENOUGH:
        return eight_bits
    seven_bits = quantize(nncf.OverflowFix.ENABLE)
    return seven_bits if _kept_labels(seven_bits, graph, images) > kept else eight_bits


COMPARED, ENOUGH = 8, 0.97
"""Number of calibration images on which labels are compared, and the share of equal labels that is enough."""


def _kept_labels(quantized: openvino.Model, graph: openvino.Model, images: list[np.ndarray]) -> float:
    """Return the share of labels at output stride that a quantized graph has in common with the float graph."""
    equal = []
    for image in images:
        pixels = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
        labels = [
            CompiledGraph(take_channels_last(each), "float32", 1, 1, pixels.shape)(pixels).argmax(1)
            for each in (quantized, graph)
        ]
        equal.append(np.mean(labels[0] == labels[1]))
    return float(np.mean(equal))


def take_channels_last(graph: openvino.Model) -> openvino.Model:
    """Return a copy of a model that takes (batch, height, width, 3), the order in which its layers compute.

    Reordering pixels outside the model took a fifth of the time of an 8-bit model.
    """
    from openvino import Layout
    from openvino.preprocess import PrePostProcessor

    steps = PrePostProcessor(graph.clone())
    steps.input().tensor().set_layout(Layout("NHWC"))
    steps.input().model().set_layout(Layout("NCHW"))
    found: openvino.Model = steps.build()
    return found
