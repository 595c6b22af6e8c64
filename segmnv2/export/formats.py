"""Formats of exports, and exported files that are opened in their own runtimes."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from segmnv2.engines.backend import Calibration, Precision
from segmnv2.engines.selection import INT8_PACKAGES, install_hint, missing_packages
from segmnv2.errors import ConfigError, MediaError, WeightsError
from segmnv2.export.export_metadata import ExportMetadata
from segmnv2.models.segmenter import Segmenter


@dataclass(frozen=True)
class OpenedExport:
    """Calls an exported file on one image after another."""

    source: Path  # the file, for messages
    metadata: ExportMetadata  # the metadata in the file
    # Runs the file on a batch of one image, uint8 (1, h, w, 3). The result also has a batch axis. Later calls do not
    # change it.
    run: Callable[[UInt8[np.ndarray, "1 h w 3"]], np.ndarray[Any, Any]]
    # Returns the possible precisions of the weights in the file; none if the format does not show them.
    stored_precisions: Callable[[], tuple[Precision, ...]] = lambda: ()

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> np.ndarray[Any, Any]:
        """Return uint8 labels (h, w) or float32 logits (classes, rows, columns) for a uint8 RGB image, 0..255.

        Raises:
            MediaError: the file takes another image size.
            WeightsError: the runtime fails, for example on a damaged file.
        """
        size = self.metadata.size
        if size is not None and image.shape[:2] != size:
            raise MediaError(
                f"image: has {image.shape[1]}x{image.shape[0]} pixels, and this {self.metadata.format} file takes "
                f"{size[1]}x{size[0]} only; resize or pad the image, or export with --size dynamic"
            )
        with readable(self.source, f"its runtime cannot run it on {image.shape[1]}x{image.shape[0]} pixels"):
            found: np.ndarray[Any, Any] = self.run(np.ascontiguousarray(image)[None])[0]
        return found


@contextmanager
def readable(path: Path, what: str) -> Iterator[None]:
    """Turn any error of the block into a WeightsError that names the file; runtimes have no common class of errors.

    Args:
        path: the file.
        what: start of the message, such as "ONNX Runtime cannot read it".
    """
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path}: {what} ({reason}); export it again") from error


@dataclass(frozen=True)
class Format:
    """Properties of a format."""

    title: str  # name for people
    suffix: str  # suffix of its files
    # (model, path, metadata, calibration) -> nothing; writes what ``metadata`` describes. The path is in an empty
    # folder, and all files and folders that are written there belong to the export.
    write: Callable[[Segmenter, Path, ExportMetadata, Calibration], None]
    open: Callable[[Path, int], OpenedExport]  # (path, threads) -> the file in its own runtime
    precisions: tuple[Precision, ...]  # possible precisions
    packages: tuple[str, ...] = ()  # packages that must be installed to write and open it
    extra: str = ""  # extra of this package that installs them
    dynamic: bool = True  # whether one file can take images of any size
    companions: tuple[str, ...] = ()  # suffixes of further files that are needed to open the file
    int8_packages: tuple[str, ...] = INT8_PACKAGES  # further packages that int8 needs
    system: str = ""  # ``sys.platform`` of the only system that can run the file; every system can write it

    @property
    def runs_here(self) -> bool:
        """Whether this system can run, and so verify, the file."""
        return self.system in ("", sys.platform)

    def missing(self, precision: Precision = "float32") -> list[str]:
        """Return the packages that a precision needs and that are not installed."""
        needed = (*self.packages, *(self.int8_packages if precision == "int8" else ()))
        return missing_packages(needed)


def _imported_later(name: str) -> Callable[..., Any]:
    """Return a function of this package whose module, with the format's packages, is imported at the first call."""
    return lambda *arguments: pkgutil.resolve_name(f"segmnv2.export.{name}")(*arguments)


FORMATS: dict[str, Format] = {
    "onnx": Format(
        "ONNX",
        ".onnx",
        _imported_later("onnx_file:write_onnx"),
        _imported_later("onnx_file:open_onnx"),
        precisions=("float32", "float16", "int8"),
        packages=("onnx", "onnxscript", "onnxruntime"),
        extra="onnx",
    ),
    "openvino": Format(
        "OpenVINO IR",
        ".xml",
        _imported_later("openvino_file:write_openvino"),
        _imported_later("openvino_file:open_openvino"),
        precisions=("float32", "float16", "bfloat16", "int8"),
        packages=("openvino",),
        extra="openvino",
        companions=(".bin",),
    ),
    "torch": Format(
        "torch.export",
        ".pt2",
        _imported_later("torch_file:write_torch"),
        _imported_later("torch_file:open_torch"),
        precisions=("float32", "bfloat16"),
    ),
    "executorch": Format(
        "ExecuTorch",
        ".pte",
        _imported_later("mobile.executorch_file:write_executorch"),
        _imported_later("mobile.executorch_file:open_executorch"),
        precisions=("float32", "int8"),
        packages=("executorch",),
        extra="executorch",
        dynamic=False,
        int8_packages=("torchao",),
    ),
    "litert": Format(
        "LiteRT",
        ".tflite",
        _imported_later("mobile.litert_file:write_litert"),
        _imported_later("mobile.litert_file:open_litert"),
        precisions=("float32", "float16", "int8"),
        packages=("ai_edge_litert", "flatbuffers"),
        extra="litert",
        dynamic=False,
        int8_packages=("executorch", "torchao"),
    ),
    "coreml": Format(
        "Core ML",
        ".mlpackage",
        _imported_later("mobile.coreml_file:write_coreml"),
        _imported_later("mobile.coreml_file:open_coreml"),
        precisions=("float32", "float16"),
        packages=("coremltools",),
        extra="coreml",
        dynamic=False,
        system="darwin",
    ),
}
"""Name, a value of ``--format`` -> format."""


def find_format(name: str, precision: Precision = "float32") -> Format:
    """Return the format with a name.

    Raises:
        ConfigError: it is unknown, lacks the precision, or its packages are not installed.
    """
    if name not in FORMATS:
        raise ConfigError(f"format: {name!r} is not known; give one of {', '.join(FORMATS)}")
    found = FORMATS[name]
    if precision not in found.precisions:
        raise ConfigError(
            f"precision: '{name}' is not written in {precision}; give one of {', '.join(found.precisions)}"
        )
    if missing := found.missing(precision):
        raise ConfigError(f"format: '{name}' {install_hint(missing, found.extra)}")
    return found


def recognize_format(path: str | Path) -> str:
    """Return the name of the format with a file's suffix, or raise a ConfigError."""
    suffix = Path(path).suffix.lower()
    for name, form in FORMATS.items():
        if form.suffix == suffix:
            return name
    endings = ", ".join(form.suffix for form in FORMATS.values())
    raise ConfigError(f"{path}: no format has the suffix {suffix!r}; give a file that ends in one of {endings}")


def export_files(path: str | Path) -> list[Path]:
    """Return all files of an export, including those in its folder.

    Raises:
        ConfigError: no format has the suffix.
        WeightsError: a file is missing.
    """
    path = Path(path)
    companions = FORMATS[recognize_format(path)].companions
    parts = [path, *(path.with_suffix(suffix) for suffix in companions)]
    for part in parts:
        if not part.exists():
            raise WeightsError(f"{part}: no such file; give a file of `segmnv2 export`, with all files beside it")
    found = [file for part in parts for file in ([part] if part.is_file() else sorted(part.rglob("*")))]
    return [file for file in found if file.is_file()]
