"""OpenVINO IR, ``.xml`` and ``.bin``: the graph of the model, joined to the graphs of pre- and post-processing."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from segmnv2.engines.backend import Calibration, Precision
from segmnv2.engines.openvino import HINTS, build_graph, openvino_core
from segmnv2.export.deployable import CellLabels, build_preparation
from segmnv2.export.export_metadata import ExportMetadata
from segmnv2.export.formats import OpenedExport, readable
from segmnv2.models.segmenter import Segmenter

if TYPE_CHECKING:
    import openvino

IMAGE = "image"
SECTION = "segmnv2"  # key of the metadata in the model's ``rt_info``


def write_openvino(model: Segmenter, path: Path, metadata: ExportMetadata, calibration: Calibration = None) -> None:
    """Write a model as OpenVINO IR, with the ``.bin`` file beside the ``.xml``.

    In float16 and bfloat16 the weights are stored in 16 bits. The precision of computation is chosen at loading;
    :func:`open_openvino` chooses that of the file.
    """
    import openvino

    whole = join_ends(build_graph(model, metadata.precision, calibration), model, metadata)
    for key, value in metadata.to_entries().items():
        whole.set_rt_info(value, [SECTION, key])
    try:
        openvino.save_model(whole, path, compress_to_fp16=metadata.precision in ("float16", "bfloat16"))
    except RuntimeError as error:  # of a C++ stream
        raise OSError(f"{path}: OpenVINO cannot write the file ({error})") from error


def join_ends(network: openvino.Model, model: Segmenter, metadata: ExportMetadata) -> openvino.Model:
    """Return the model's graph, from pixels to logits, joined to the graphs of pre- and post-processing."""
    import openvino

    stride = model.output_stride
    image = torch.zeros(1, 2 * stride, 3 * stride, 3, dtype=torch.uint8)
    logits = torch.zeros(1, model.num_classes, 3, 4)
    any_image, any_grid = [1, -1, -1, 3], [1, model.num_classes, -1, -1]
    before = _convert(build_preparation(model), (image,), (any_image,))
    parameter = before.inputs[0].get_node()
    parameter.set_friendly_name(IMAGE)
    before.inputs[0].get_tensor().set_names({IMAGE})
    _connect(before.outputs[0], network.inputs[0])
    result = network.outputs[0]
    if metadata.output == "labels":
        after = _convert(CellLabels(model.logits_stride), (logits, image), (any_grid, any_image))
        _connect(result, after.inputs[0])
        _connect(before.inputs[0], after.inputs[1])
        result = after.outputs[0]
    result.get_tensor().set_names({metadata.output})
    whole = openvino.Model([result.get_node()], [parameter], "segmnv2")
    if metadata.size is not None:
        whole.reshape([1, *metadata.size, 3])
    whole.validate_nodes_and_infer_types()
    return whole


def _convert(module: nn.Module, examples: tuple[torch.Tensor, ...], shapes: tuple[list[int], ...]) -> openvino.Model:
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns about every size that becomes a constant
        found: openvino.Model = openvino.convert_model(
            module,
            example_input=examples if len(examples) > 1 else examples[0],
            input=[openvino.PartialShape(shape) for shape in shapes],
        )
    return found


def _connect(source: openvino.Output, target: openvino.Output) -> None:
    """Connect an input or output of a graph to the readers of another graph's input."""
    node = source.get_node()
    source = node.input_value(0) if node.get_type_name() == "Result" else source
    for reader in target.get_target_inputs():
        reader.replace_source_output(source)


def open_openvino(path: Path, threads: int) -> OpenedExport:
    """Open an IR file in OpenVINO on the CPU, to compute in the precision of the file."""
    core = openvino_core()
    with readable(path, "OpenVINO cannot read it"):
        model = core.read_model(path)
        found = model.get_rt_info([SECTION]).value if model.has_rt_info([SECTION]) else {}
        entries = {key: str(getattr(value, "value", value)) for key, value in found.items()}
    metadata = ExportMetadata.from_entries(entries, str(path))
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": HINTS.get(metadata.precision, "f32"),
    }
    with readable(path, "OpenVINO cannot compile it"):
        request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(batch: UInt8[np.ndarray, "1 h w 3"]) -> np.ndarray[Any, Any]:
        request.infer([batch], share_inputs=True)
        return np.array(request.get_output_tensor(0).data)

    return OpenedExport(path, metadata, run, lambda: stored_precisions(path))


def stored_precisions(path: Path) -> tuple[Precision, ...]:
    """Return the precisions that agree with the operators and constants of a file; for 16-bit weights these are two."""
    operators = openvino_core().read_model(path).get_ops()
    if any(each.get_type_name() == "FakeQuantize" for each in operators):
        return ("int8",)
    constants = (each for each in operators if each.get_type_name() == "Constant")
    if any(each.get_element_type().get_type_name() == "f16" for each in constants):
        return ("float16", "bfloat16")
    return ("float32",)
