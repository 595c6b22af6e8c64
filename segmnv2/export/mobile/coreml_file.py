"""Core ML's ``.mlpackage``, for iOS 16, macOS 13 and later. It is written on every system and runs only on Apple's.

The input has Core ML's image type, which apps fill from the buffer of a camera. Labels are 32-bit integers, because
Core ML returns no smaller type.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor, nn

from segmnv2.engines.backend import Calibration
from segmnv2.engines.pytorch import InferenceNetwork
from segmnv2.errors import ConfigError
from segmnv2.export.deployable import build_preparation, grid_cells, interpolation_matrix
from segmnv2.export.export_metadata import ExportMetadata
from segmnv2.export.formats import FORMATS, OpenedExport, readable
from segmnv2.models.segmenter import Segmenter
from segmnv2.telemetry import quiet

if TYPE_CHECKING:
    from coremltools.models import MLModel


IMAGE = "image"
DEBUG_FILE = "executorch_debug_handle_mapping.json"  # coremltools writes it for debuggers of another runtime


class _Deployable(nn.Module):
    """A model from an image, channels first, to labels or logits."""

    rows: Tensor
    columns: Tensor

    def __init__(self, model: Segmenter, size: tuple[int, int], *, raw_logits: bool) -> None:
        super().__init__()
        self.preparation = build_preparation(model)
        self.network = InferenceNetwork(model).to(memory_format=torch.contiguous_format)
        self.raw_logits = raw_logits
        for name, side in zip(("rows", "columns"), size, strict=True):
            self.register_buffer(name, interpolation_matrix(side, grid_cells(side, model), model.logits_stride))

    def forward(self, image: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 k i j"] | Int32[Tensor, "1 h w"]:
        logits: Tensor = self.network(self.preparation(image.permute(0, 2, 3, 1)))
        if self.raw_logits:
            return logits
        full = torch.matmul(torch.matmul(self.rows, logits), self.columns.t())
        return full.argmax(1).to(torch.int32)


def write_coreml(model: Segmenter, path: Path, metadata: ExportMetadata, _calibration: Calibration = None) -> None:
    """Write a model as a Core ML package, a folder, for one size; in float16 the layers also compute in float16."""
    package = convert(model, metadata)
    package.user_defined_metadata.update(metadata.to_entries())
    package.short_description = f"segmnv2: {', '.join(metadata.labels.names)}"
    package.save(str(path))
    (path / DEBUG_FILE).unlink(missing_ok=True)


def convert(model: Segmenter, metadata: ExportMetadata, target: str = "mlprogram") -> Any:
    """Return a model as coremltools' model; the target ``"milinternal"`` gives the program before serialization."""
    with _quiet():
        import coremltools

        assert metadata.size is not None
        whole = _Deployable(model, metadata.size, raw_logits=metadata.output == "logits").eval()
        example = torch.zeros(1, 3, *metadata.size)
        program = torch.export.export(whole, (example,), strict=False).run_decompositions({})
        precision = coremltools.precision
        kind = np.int32 if metadata.output == "labels" else np.float32
        return coremltools.convert(
            program,
            inputs=[coremltools.ImageType(IMAGE, example.shape, color_layout=coremltools.colorlayout.RGB)],
            outputs=[coremltools.TensorType(metadata.output, dtype=kind)],
            convert_to=target,
            minimum_deployment_target=coremltools.target.iOS16,
            compute_precision=precision.FLOAT16 if metadata.precision == "float16" else precision.FLOAT32,
            skip_model_load=True,
        )


def open_coreml(path: Path, _threads: int) -> OpenedExport:
    """Open a package in Core ML on a Mac; Core ML chooses processor and threads.

    The project's tests run without a Mac and check only the content of packages.

    Raises:
        ConfigError: this system is no Mac.
        WeightsError: the folder is missing, damaged or from another program.
    """
    if not FORMATS["coreml"].runs_here:
        raise ConfigError(f"{path}: Core ML runs on macOS and iOS only, not on {sys.platform}; verify it on a Mac")
    package = load_package(path, run=True)
    metadata = ExportMetadata.from_entries(package.user_defined_metadata, str(path))

    def run(batch: UInt8[np.ndarray, "1 h w 3"]) -> np.ndarray[Any, Any]:
        found = package.predict({IMAGE: PIL.Image.fromarray(batch[0])})[metadata.output]
        return np.asarray(found).astype(np.uint8 if metadata.output == "labels" else np.float32)

    return OpenedExport(path, metadata, run)


def load_package(path: Path, *, run: bool) -> MLModel:
    """Load a package to run it, or only to read its content, which works on any system."""
    with _quiet():
        from coremltools.models import MLModel

        with readable(path, "coremltools cannot read it"):
            return MLModel(str(path), skip_model_load=not run)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide coremltools' progress bars and its warnings about versions that it was not tested with."""
    with quiet(logging.ERROR), redirect_stderr(io.StringIO()):
        yield
