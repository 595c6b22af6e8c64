"""ExecuTorch's ``.pte``: a program for phones that XNNPACK runs; a method returns its metadata as a text.

The module also quantizes models to 8 bits for ExecuTorch and LiteRT, because XNNPACK runs both.

Weights are symmetric with one scale per channel. Activations have one scale and a zero point. The result of a
convolution and the activation after it is rounded once. Before quantization, biases are corrected by the mean error
that rounded weights add to each channel.

Source: Data-Free Quantization (Nagel et al. 2019), section 4.2, with images in place of the norms' statistics.
"""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, fx, nn

from segmnv2.engines.backend import Calibration, Precision
from segmnv2.engines.int8 import calibration_arrays
from segmnv2.engines.pytorch import InferenceNetwork
from segmnv2.export.deployable import Deployable, PlaneLabels, RawLogits, build_preparation
from segmnv2.export.export_metadata import ExportMetadata
from segmnv2.export.formats import OpenedExport, readable
from segmnv2.files.documents import dump_json
from segmnv2.media.inputs import pick_evenly
from segmnv2.models.segmenter import Segmenter
from segmnv2.telemetry import quiet

ENTRIES = "segmnv2"  # name of the method that returns the metadata as JSON
MAIN = "forward"

TRIAL = """
import sys, torch
from executorch.extension.pybindings import _C as runtime
module = runtime._load_for_executorch(sys.argv[1])
for name in module.method_names():
    meta = module.method_meta(name)
    sizes = [tuple(meta.input_tensor_meta(index).sizes()) for index in range(meta.num_inputs())]
    module.run_method(name, [torch.zeros(each, dtype=torch.uint8) for each in sizes])
"""
"""Program that runs every method of a file. The usual import of the runtime takes ten times as long."""

TRIAL_SECONDS = 120

INCONCLUSIVE = ("ImportError", "ModuleNotFoundError", "AttributeError", "RuntimeError")
"""Errors of a trial that are ignored: they may have another cause than the file, or opening the file reports them."""


def write_executorch(model: Segmenter, path: Path, metadata: ExportMetadata, calibration: Calibration = None) -> None:
    """Write a model as a program for ExecuTorch with XNNPACK, which plans memory for one size."""
    assert metadata.size is not None
    network = build_network(model, metadata.precision, calibration)
    logits = metadata.output == "logits"
    ending = RawLogits() if logits else PlaneLabels(metadata.size, model.logits_stride)
    whole = Deployable(_FloatFirst(build_preparation(model)), network, ending)
    image = torch.zeros(1, *metadata.size, 3, dtype=torch.uint8)
    path.write_bytes(lower(whole, image, metadata))


class _FloatFirst(nn.Module):
    """A preparation that first converts bytes to floats, so that XNNPACK can run the rest."""

    def __init__(self, preparation: nn.Module) -> None:
        super().__init__()
        self.preparation = preparation

    def forward(self, image: UInt8[Tensor, "1 h w 3"]) -> Float[Tensor, "1 3 i j"]:
        pixels: Tensor = self.preparation(image.to(torch.float32))
        return pixels


def lower(whole: nn.Module, image: UInt8[Tensor, "1 h w 3"], metadata: ExportMetadata) -> bytes:
    """Return the program of a module that takes a uint8 image of one size."""
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = torch.export.export(whole, (image,), strict=False)
        lowered = to_edge_transform_and_lower(
            program,
            partitioner=[XnnpackPartitioner()],
            constant_methods={ENTRIES: dump_json(metadata.to_dict())},
        )
        return bytes(lowered.to_executorch().buffer)


def _run_in_process(path: Path) -> None:
    """Run a file in another process, because some damaged files end the process of the runtime.

    Raises:
        WeightsError: the process ends with an error or takes minutes.
    """
    words = [sys.executable, "-c", TRIAL, str(path.resolve())]
    with readable(path, "ExecuTorch cannot run it"):
        done = subprocess.run(words, capture_output=True, timeout=TRIAL_SECONDS, check=False)
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else f"exit code {done.returncode}"
        if done.returncode and not last.startswith(INCONCLUSIVE):
            raise RuntimeError(last)


def open_executorch(path: Path, threads: int) -> OpenedExport:
    """Open a program in ExecuTorch's runtime on the CPU; its threads belong to the process."""
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    _run_in_process(path)
    count = getattr(portable_lib, "_threadpool_get_thread_count", None)  # missing in ExecuTorch 1.0
    if count is None or count() != threads:
        portable_lib._unsafe_reset_threadpool(threads)  # there is no other way to set their number
    with readable(path, "ExecuTorch cannot read it"):
        program = Runtime.get().load_program(path.read_bytes())
        text = str(program.load_method(ENTRIES).execute([])[0]) if ENTRIES in program.method_names else "{}"
        method = program.load_method(MAIN)

    def run(batch: UInt8[np.ndarray, "1 h w 3"]) -> np.ndarray[Any, Any]:
        assert program is not None  # keeps a reference, because the method needs the program
        (found,) = method.execute([torch.from_numpy(batch)])
        return np.array(found)

    return OpenedExport(path, ExportMetadata.from_json(text, str(path)), run)


LEVELS = 127  # largest 8-bit weight; the smallest is -127
T = TypeVar("T", bound=nn.Module)


@torch.no_grad()
def correct_biases(network: T, images: Sequence[Float[Tensor, "1 3 _ _"]]) -> T:
    """Return a copy whose biases keep each channel's mean over images unchanged when weights are rounded later.

    Norms must be folded. Layers without a bias are unchanged.
    """
    corrected = copy.deepcopy(network)
    layers = [each for each in corrected.modules() if isinstance(each, nn.Conv2d) and each.bias is not None]
    changes = {layer: round_weights(layer.weight) - layer.weight for layer in layers}
    shifts = {layer: torch.zeros_like(changes[layer][:, 0, 0, 0]) for layer in layers}

    def add_error(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Conv2d)
        error = F.conv2d(inputs[0], changes[layer], None, layer.stride, layer.padding, layer.dilation, layer.groups)
        shifts[layer] += error.mean((0, 2, 3)) / len(images)

    hooks = [layer.register_forward_pre_hook(add_error) for layer in layers]
    for pixels in images:
        corrected(pixels)
    for hook in hooks:
        hook.remove()
    for layer in layers:
        assert layer.bias is not None
        layer.bias.sub_(shifts[layer])
    return corrected


def round_weights(weight: Float[Tensor, "o i h w"]) -> Float[Tensor, "o i h w"]:
    """Return weights rounded to 8 bits, symmetric with one scale for each output channel."""
    scale = weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny) / LEVELS
    return (weight / scale).round() * scale


CONVOLUTIONS = (torch.ops.aten.conv2d.default,)
CLAMPS = (torch.ops.aten.hardtanh.default, torch.ops.aten.hardtanh_.default)
EPSILON = 2**-12  # smallest scale, as in ExecuTorch's configuration
CORRECTION_IMAGES = 50  # largest number of images to correct biases; ranges are from all images


def build_network(model: Segmenter, precision: Precision, calibration: Calibration) -> nn.Module:
    """Return a model from pixels to logits, in 8 bits for int8, otherwise in floats.

    Its weights are contiguous, because XNNPACK's passes reorder memory themselves and reject any other order.
    """
    if precision == "int8":
        return quantize_network(model, calibration)
    return InferenceNetwork(model).to(memory_format=torch.contiguous_format)


def quantize_network(model: Segmenter, calibration: Calibration) -> nn.Module:
    """Return a graph of a model in which each operation is between a conversion from 8-bit levels and one to levels.

    Raises:
        ConfigError: there is no calibration.
    """
    pixels = [torch.from_numpy(each) for each in calibration_arrays(calibration)]
    network = correct_biases(InferenceNetwork(model), pick_evenly(pixels, CORRECTION_IMAGES))
    prepared = network.to(memory_format=torch.contiguous_format)
    with quiet():  # these imports print advice
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )
        from torchao.quantization.pt2e import allow_exported_model_train_eval
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    config = _measure_extremes(get_symmetric_quantization_config(is_per_channel=True))

    class Quantizer(XNNPACKQuantizer):  # type: ignore[misc]
        """ExecuTorch's quantizer, changed to round after a ReLU6, so that no levels are lost on values above 6."""

        def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
            for node in model.graph.nodes:
                if node.target in CLAMPS and _is_convolution_for(node.args[0], node):
                    _join_for_rounding(node.args[0], node, config)
            annotated: fx.GraphModule = super().annotate(model)
            return annotated

    with quiet():
        observed = prepare_pt2e(_export_any_size(prepared, model.output_stride), Quantizer().set_global(config))
        for each in pixels:
            observed(each)
        quantized: nn.Module = allow_exported_model_train_eval(convert_pt2e(observed))
    return quantized


def _measure_extremes(config: Any) -> Any:
    """Return a configuration whose ranges are from the smallest to the largest value in the images.

    ExecuTorch's default, by histograms, takes twice as long and keeps no more labels.
    """
    from torchao.quantization.pt2e import MinMaxObserver

    observer = MinMaxObserver.with_args(eps=EPSILON)
    activation = dataclasses.replace(config.input_activation, observer_or_fake_quant_ctr=observer)
    return dataclasses.replace(config, input_activation=activation, output_activation=activation)


def _is_convolution_for(node: object, reader: fx.Node) -> bool:
    return isinstance(node, fx.Node) and node.target in CONVOLUTIONS and list(node.users) == [reader]


def _join_for_rounding(convolution: fx.Node, clamp: fx.Node, config: Any) -> None:
    """Mark a convolution and the clamp after it as one operation for the quantizer."""
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation
    from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

    image, weight, *bias = convolution.args
    specs = {image: config.input_activation, weight: config.weight}
    specs |= dict.fromkeys(bias[:1], config.bias)
    convolution.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(input_qspec_map=specs, _annotated=True)
    output = config.output_activation
    clamp.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(output_qspec=output, _annotated=True)


def _export_any_size(network: nn.Module, stride: int) -> nn.Module:
    """Return the model as a graph that takes images of any sides k * stride + 1."""
    axes = {axis: stride * torch.export.Dim(name, min=1) + 1 for axis, name in ((2, "rows"), (3, "columns"))}
    example = torch.zeros(1, 3, 5 * stride + 1, 7 * stride + 1)
    return torch.export.export(network, (example,), dynamic_shapes=(axes,), strict=False).module()
