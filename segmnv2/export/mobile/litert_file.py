"""LiteRT's ``.tflite`` files (formerly TensorFlow Lite), with the metadata as a named buffer.

The module writes the file operator by operator, with the file format's classes from the runtime's package. Converters
exist, but litert-torch needs versions of packages that other dependencies exclude. And onnx2tf needs TensorFlow, which
is larger than all other dependencies together. The models have only a few kinds of operators. Here a dilated
convolution stays one operator, and converters often write three.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8

from segmnv2.engines.backend import Calibration, Precision
from segmnv2.export.deployable import LEAST_HALVED, grid_cells
from segmnv2.export.export_metadata import ExportMetadata
from segmnv2.export.formats import OpenedExport, readable
from segmnv2.export.mobile.executorch_file import build_network
from segmnv2.files.documents import dump_json
from segmnv2.models.segmenter import Segmenter

if TYPE_CHECKING:
    from segmnv2.export.mobile.litert_tensors import LiteRtModel


IMAGE = "image"
ENTRIES = "segmnv2"  # name of the buffer with the metadata as JSON


def write_litert(model: Segmenter, path: Path, metadata: ExportMetadata, calibration: Calibration = None) -> None:
    """Write a model as a LiteRT file for one size.

    In float16 the weights are stored in 16 bits, and layers compute in 32 bits unless the device chooses 16.

    Raises:
        ConfigError: int8 has no calibration, or the backbone has operations that are not supported.
    """
    from segmnv2.export.mobile.litert_operators import write_network
    from segmnv2.export.mobile.litert_tensors import LiteRtModel

    assert metadata.size is not None
    network = build_network(model, metadata.precision, calibration)
    size = metadata.size
    sides = [(grid_cells(side, model) - 1) * model.logits_stride + 1 for side in size]
    program = torch.export.export(network, (torch.zeros(1, 3, *sides),), strict=False).run_decompositions()
    graph = LiteRtModel()
    image = graph.tensor((1, *size, 3), np.uint8, name=IMAGE)
    pixels = _prepare(graph, image, sides, model.mean_pixel)
    logits = write_network(program, graph, pixels, half=metadata.precision == "float16")
    result = _channels_first(graph, logits) if metadata.output == "logits" else _labels(graph, logits, sides, size)
    entries = {ENTRIES: dump_json(metadata.to_dict())}
    path.write_bytes(graph.to_bytes({IMAGE: image}, {metadata.output: result}, entries))


def _prepare(graph: LiteRtModel, image: int, sides: list[int], padding: tuple[float, float, float]) -> int:
    """Add operators that convert the image to floats and pad it at the right and bottom with the mean pixel."""
    shape = graph.shape(image)
    pixels = graph.operator(
        "CAST", [image], graph.tensor(shape, np.float32), options="CastOptions", inDataType=3, outDataType=0
    )
    bottom, right = (side - own for side, own in zip(sides, shape[1:3], strict=True))
    if not bottom and not right:
        return pixels
    mean = graph.constant(np.array(padding, dtype=np.float32))
    table = graph.constant(np.array([[0, 0], [0, bottom], [0, right], [0, 0]], dtype=np.int32))
    full = (1, *sides, 3)
    pixels = graph.operator("SUB", [pixels, mean], graph.tensor(shape, np.float32), options="SubOptions")
    pixels = graph.operator("PAD", [pixels, table], graph.tensor(full, np.float32), options="PadOptions")
    return graph.operator("ADD", [pixels, mean], graph.tensor(full, np.float32), options="AddOptions")


def _labels(graph: LiteRtModel, logits: int, sides: list[int], size: tuple[int, int]) -> int:
    """Add operators that resize logits with aligned corners, take the argmax, and crop it to the image."""
    classes = graph.shape(logits)[-1]
    wanted = graph.constant(np.array(sides, dtype=np.int32))
    full = graph.tensor((1, *sides, classes), np.float32)
    graph.operator("RESIZE_BILINEAR", [logits, wanted], full, options="ResizeBilinearOptions", alignCorners=True)
    axis = graph.constant(np.array(3, dtype=np.int32))
    best = graph.tensor((1, *sides), np.int32)
    graph.operator("ARG_MAX", [full, axis], best, options="ArgMaxOptions", outputType=2)
    labels = graph.tensor((1, *sides), np.uint8, name="" if list(size) != sides else "labels")
    graph.operator("CAST", [best], labels, options="CastOptions", inDataType=2, outDataType=3)
    if list(size) == sides:
        return labels
    begin, extent = (graph.constant(np.array(each, dtype=np.int32)) for each in ([0, 0, 0], [1, *size]))
    cropped = graph.tensor((1, *size), np.uint8, name="labels")
    return graph.operator("SLICE", [labels, begin, extent], cropped, version=2, options="SliceOptions")


def _channels_first(graph: LiteRtModel, logits: int) -> int:
    batch, rows, columns, classes = graph.shape(logits)
    order = graph.constant(np.array([0, 3, 1, 2], dtype=np.int32))
    reordered = graph.tensor((batch, classes, rows, columns), np.float32, name="logits")
    return graph.operator("TRANSPOSE", [logits, order], reordered, options="TransposeOptions")


def open_litert(path: Path, threads: int) -> OpenedExport:
    """Open a LiteRT file in LiteRT's interpreter with XNNPACK on the CPU."""
    from ai_edge_litert.interpreter import Interpreter

    with readable(path, "LiteRT cannot read it"):
        content = path.read_bytes()
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
        text = read_entry(content, ENTRIES)
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(f"it has {len(inputs)} inputs and {len(outputs)} outputs")

    def run(batch: UInt8[np.ndarray, "1 h w 3"]) -> np.ndarray[Any, Any]:
        interpreter.set_tensor(inputs[0]["index"], batch)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(outputs[0]["index"]))

    return OpenedExport(path, ExportMetadata.from_json(text, str(path)), run, lambda: stored_precisions(content))


def stored_precisions(content: bytes) -> tuple[Precision, ...]:
    """Return the precisions that agree with the types of a file's large constants."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    tensors = [graph.Tensors(index) for index in range(graph.TensorsLength())]
    constants = [each for each in tensors if model.Buffers(each.Buffer()).DataLength()]
    if any(each.Type() == schema.TensorType.INT8 for each in constants):
        return ("int8",)
    kinds = {each.Type() for each in constants if np.prod(each.ShapeAsNumpy()) >= LEAST_HALVED}
    if schema.TensorType.FLOAT16 in kinds:
        return ("float16",)
    return ("float32",) if schema.TensorType.FLOAT32 in kinds else ("float32", "float16")


def read_entry(content: bytes, name: str) -> str:
    """Return the text of the metadata buffer ``name`` of a file, or ``{}`` if there is none."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == name.encode():
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy()).decode()
    return "{}"
