"""ONNX files: the graph of the model, joined to the graphs of pre- and post-processing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8

from segmnv2.engines.backend import Calibration, Precision
from segmnv2.engines.onnx_runtime import INPUT, OUTPUT, build_graph, onnx_bytes, open_session
from segmnv2.export.deployable import EXAMPLE_SIZE, LEAST_HALVED, CellLabels, build_preparation, grid_cells
from segmnv2.export.export_metadata import ExportMetadata
from segmnv2.export.formats import OpenedExport, readable
from segmnv2.models.segmenter import Segmenter

if TYPE_CHECKING:
    from onnx import ModelProto

IMAGE, LABELS = "image", "labels"
IMAGE_AXES = {1: "height", 2: "width"}
GRID_AXES = {2: "rows", 3: "columns"}
QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv")

FLOAT = 1  # onnx.TensorProto.FLOAT


def write_onnx(model: Segmenter, path: Path, metadata: ExportMetadata, calibration: Calibration = None) -> None:
    """Write a model as ONNX; in float16 the weights are stored in 16 bits, and layers compute in 32 bits."""
    import onnx

    network = build_graph(model, metadata.precision, calibration)
    graph = join_ends(onnx.load_from_string(network), model, metadata)
    if metadata.precision == "float16":
        halve_weights(graph)
    for key, value in metadata.to_entries().items():
        graph.metadata_props.add(key=key, value=value)
    graph.producer_name, graph.producer_version = "segmnv2", metadata.version
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def join_ends(network: ModelProto, model: Segmenter, metadata: ExportMetadata) -> ModelProto:
    """Return the model's graph, from pixels to logits, joined to the graphs of pre- and post-processing."""
    height, width = metadata.size or EXAMPLE_SIZE
    image = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    any_size = metadata.size is None
    before = onnx_bytes(build_preparation(model), (image,), [IMAGE], [INPUT], (IMAGE_AXES,) if any_size else None)
    graph = _connect(_add_prefix(before, "preparation/"), network, INPUT)
    if metadata.output == "labels":
        rows, columns = (grid_cells(side, model) for side in (height, width))
        logits = torch.zeros(1, model.num_classes, rows, columns)
        axes = (GRID_AXES, IMAGE_AXES) if any_size else None
        after = onnx_bytes(CellLabels(model.logits_stride), (logits, image), [OUTPUT, IMAGE], [LABELS], axes)
        graph = _connect(graph, _add_prefix(after, "ending/"), OUTPUT)
    _set_output_shape(graph, model, metadata)
    return graph


def _add_prefix(content: bytes, prefix: str) -> ModelProto:
    """Return a graph with a prefix before all names except those of inputs and outputs."""
    from onnx import compose, load_from_string

    return compose.add_prefix(load_from_string(content), prefix, rename_inputs=False, rename_outputs=False)


def _connect(first: ModelProto, second: ModelProto, name: str) -> ModelProto:
    """Return two graphs as one; ``name`` is an output of the first and an input of the second.

    Other inputs with equal names become one input.
    """
    import onnx

    assert {each.version for each in first.opset_import if not each.domain} == {
        each.version for each in second.opset_import if not each.domain
    }
    joined = onnx.ModelProto()
    joined.CopyFrom(first)
    graph = joined.graph
    known = {each.name for each in graph.input} | {name}
    graph.node.extend(second.graph.node)
    graph.initializer.extend(second.graph.initializer)
    graph.input.extend(each for each in second.graph.input if each.name not in known)
    del graph.output[:]
    graph.output.extend(second.graph.output)
    return joined


def _set_output_shape(graph: ModelProto, model: Segmenter, metadata: ExportMetadata) -> None:
    """Set the shape of the output, with the names of the image's axes, and remove shapes of internal tensors."""
    from onnx import TensorProto, helper

    del graph.graph.value_info[:]
    del graph.graph.output[:]
    shape: list[int | str]
    if metadata.output == "labels":
        shape = [1, *(metadata.size or IMAGE_AXES.values())]
        graph.graph.output.append(helper.make_tensor_value_info(LABELS, TensorProto.UINT8, shape))
    else:
        sides = metadata.size and [grid_cells(side, model) for side in metadata.size]
        shape = [1, model.num_classes, *(sides or GRID_AXES.values())]
        graph.graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape))


def halve_weights(model: ModelProto) -> None:
    """Store weights in 16 bits; runtimes convert them to 32 bits once, at loading."""
    from onnx import helper, numpy_helper

    graph, casts = model.graph, []
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < LEAST_HALVED:
            continue
        half = f"{tensor.name}/half"
        casts.append(helper.make_node("Cast", [half], [tensor.name], f"{tensor.name}/cast", to=FLOAT))
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def open_onnx(path: Path, threads: int) -> OpenedExport:
    """Open an ONNX file in ONNX Runtime, on the CPU."""
    with readable(path, "ONNX Runtime cannot read it"):
        session = open_session(path.read_bytes(), threads)
        entries = session.get_modelmeta().custom_metadata_map
    metadata = ExportMetadata.from_entries(entries, str(path))

    def run(batch: UInt8[np.ndarray, "1 h w 3"]) -> np.ndarray[Any, Any]:
        return np.asarray(session.run(None, {IMAGE: batch})[0])

    return OpenedExport(path, metadata, run, lambda: stored_precisions(path))


def stored_precisions(path: Path) -> tuple[Precision, ...]:
    """Return the precisions that agree with the operators and large constants of a file."""
    import onnx

    graph = onnx.load(path).graph
    if any(node.op_type in QUANTIZED for node in graph.node):
        return ("int8",)
    kinds = {each.data_type for each in graph.initializer if np.prod(each.dims) >= LEAST_HALVED}
    if onnx.TensorProto.FLOAT16 in kinds:
        return ("float16",)
    return ("float32",) if FLOAT in kinds else ("float32", "float16")
