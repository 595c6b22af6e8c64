"""Choice of an engine, by name or the fastest installed one that has the precision, and of its device."""

from __future__ import annotations

import importlib.util
import pkgutil
import platform
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from segmnv2.engines.backend import (
    NO_CALIBRATION,
    Backend,
    Calibration,
    Place,
    Precision,
    check_precision,
    check_streams,
    check_threads,
)
from segmnv2.errors import ConfigError
from segmnv2.models.segmenter import Segmenter


@dataclass(frozen=True)
class Engine:
    """Properties of an engine that can be read without importing it."""

    place: str  # module and class in this package; it is imported when the engine is built
    precisions: tuple[Precision, ...]  # possible precisions
    packages: tuple[str, ...] = ()  # packages that must be installed
    extra: str = ""  # extra of this package that installs them
    gpu: bool = False  # whether it runs on CUDA devices
    streams: bool = True  # whether it computes several calls at once

    def missing(self, precision: Precision) -> list[str]:
        """Return the packages that a precision needs and that are not installed."""
        needed = (*self.packages, *(INT8_PACKAGES if precision == "int8" else ()))
        return missing_packages(needed)


def missing_packages(names: Iterable[str]) -> list[str]:
    """Return the packages, or modules such as "a.b", that are not installed."""

    def is_missing(name: str) -> bool:
        try:
            return importlib.util.find_spec(name) is None
        except ModuleNotFoundError:  # the parent of a.b
            return True

    return [name for name in names if is_missing(name)]


def install_hint(missing: Iterable[str], extra: str) -> str:
    """Return the end of a message about missing packages, which an extra of this package installs."""
    return f"needs {' and '.join(missing)}, not installed here; run: pip install 'segmnv2[{extra}]'"


ENGINES: dict[str, Engine] = {
    "openvino": Engine("openvino:OpenVinoBackend", ("float32", "bfloat16", "int8"), ("openvino",), "openvino"),
    "onnxruntime": Engine(
        "onnx_runtime:OnnxRuntimeBackend", ("float32", "int8"), ("onnxruntime", "onnx", "onnxscript"), "onnx"
    ),
    "torch": Engine("pytorch:PyTorchBackend", ("float32", "bfloat16", "float16"), gpu=True),
    "torch-compile": Engine("pytorch:CompiledBackend", ("float32", "bfloat16", "float16"), gpu=True, streams=False),
}
"""Name -> engine, the fastest on a CPU first; "auto" never chooses compilation, which takes a minute per image size."""

AUTO = "auto"
INT8_PACKAGES = ("nncf",)
UNPICKED = ("torch-compile",)


def check_backend(backend: str) -> str:
    """Return ``backend`` if it is ``"auto"`` or in :data:`ENGINES`; otherwise raise a ConfigError."""
    if backend not in (AUTO, *ENGINES):
        raise ConfigError(f"backend: {backend!r} is not known; give one of {', '.join((AUTO, *ENGINES))}")
    return backend


def choose_engine(backend: str, precision: Precision, device: torch.device) -> str:
    """Return the name of the engine: ``backend``, or for ``"auto"`` the first installed one that can run here.

    Raises:
        ConfigError: the engine is unknown, is not installed, or lacks the precision or the device; or ``"auto"`` finds
            none.
    """
    if check_backend(backend) != AUTO:
        if reason := refuse_engine(backend, precision, device):
            raise ConfigError(reason)
        return backend
    able = [name for name in ENGINES if name not in UNPICKED and not _refuse_setting(name, precision, device)]
    if not able:
        candidates = [name for name, engine in ENGINES.items() if precision in engine.precisions]
        nearest = min(candidates, key=lambda name: device.type != "cpu" and not ENGINES[name].gpu)
        raise ConfigError(_refuse_setting(nearest, precision, device))
    installed = [name for name in able if not ENGINES[name].missing(precision)]
    if not installed:
        raise ConfigError(refuse_engine(able[0], precision, device))
    return installed[0]


def refuse_engine(name: str, precision: Precision, device: torch.device) -> str | None:
    """Return the reason why an engine cannot run here, or ``None`` if it can."""
    if reason := _refuse_setting(name, precision, device):
        return reason
    missing = ENGINES[name].missing(precision)
    return f"backend: '{name}' {install_hint(missing, ENGINES[name].extra)}" if missing else None


def refuse_streams(name: str, streams: int, device: torch.device) -> str | None:
    """Return the reason why an engine cannot run so many calls at once on a device; ``None`` if it can."""
    if streams > 1 and device.type != "cpu":
        return (
            f"streams: {streams} on {device}; a GPU runs several images at once as a batch: leave streams out, or give "
            "device cpu"
        )
    if check_backend(name) != AUTO and streams > 1 and not ENGINES[name].streams:
        return f"streams: '{name}' computes one call at a time; leave streams out, or give another backend"
    return None


def _refuse_setting(name: str, precision: Precision, device: torch.device) -> str | None:
    """Return the reason why an engine, installed or not, lacks a precision or device; ``None`` if it has both."""
    engine = ENGINES[name]
    if device.type != "cpu" and not engine.gpu:
        return f"backend: '{name}' runs on the CPU only, not on {device}; give torch or torch-compile, or device cpu"
    if precision not in engine.precisions:
        return (
            f"precision: '{name}' does not compute {precision}; give one of {', '.join(engine.precisions)}, or "
            "another backend"
        )
    if precision == "float16" and device.type == "cpu":
        return f"precision: float16 is for GPUs; on this CPU give {'bfloat16 or ' * cpu_has_bfloat16()}float32"
    if precision == "bfloat16" and device.type == "cpu" and not cpu_has_bfloat16():
        return (
            "precision: this CPU has no bfloat16 instructions (AVX512_BF16, AMX, or Arm's); without them engines are "
            "many times slower or compute in float32; give float32"
        )
    if precision == "bfloat16" and device.type == "cuda" and not gpu_has_bfloat16(device):
        return f"precision: {device} has no bfloat16 and would be many times slower; give float16 or float32"
    return None


def cpu_has_bfloat16() -> bool:
    """Return whether this CPU has bfloat16 instructions."""
    if platform.machine() in ("x86_64", "AMD64"):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    has_library = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(has_library and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def gpu_has_bfloat16(device: torch.device) -> bool:
    """Return whether a CUDA device has bfloat16 instructions; ``True`` if there is no CUDA device."""
    if not torch.cuda.is_available():
        return True
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def check_calibration(calibration: object, precision: Precision) -> None:
    """Raise a ConfigError if int8 has no calibration images, or another precision has some."""
    if calibration is None and precision == "int8":
        raise ConfigError(NO_CALIBRATION)
    if calibration is not None and precision != "int8":
        raise ConfigError(f"calibration: is for int8, not for {precision}; leave it out, or give precision int8")


def create_backend(
    model: Segmenter,
    backend: str = AUTO,
    precision: str = "float32",
    threads: int | None = None,
    device: torch.device | str = "cpu",
    calibration: Calibration = None,
    streams: int = 1,
) -> Backend:
    """Prepare a model to run in an engine, without changing it.

    Args:
        model: the model.
        backend: ``"torch"``, ``"torch-compile"``, ``"onnxruntime"``, ``"openvino"``, or ``"auto"``.
        precision: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"int8"``.
        threads: total number on the CPU; PyTorch's number by default.
        device: the device.
        calibration: images from which int8 chooses its ranges: 50 or more, like those to label
            (:func:`segmnv2.inference.options.calibration_pixels`).
        streams: number of calls from different threads that run at once on the CPU and share the threads. A single call
            is faster with 1; many calls are faster with the number of threads.

    Raises:
        ConfigError: the engine is unknown, is not installed, or lacks the precision, the device or the streams; or int8
            has no calibration.
    """
    wanted = check_precision(precision)
    place = Place(torch.device(device), check_threads(threads), check_streams(streams))
    engine = choose_engine(backend, wanted, place.device)
    check_calibration(calibration, wanted)
    if reason := refuse_streams(engine, streams, place.device):
        raise ConfigError(reason)
    return build_backend(model, engine, wanted, place, calibration)


def build_backend(
    model: Segmenter, engine: str, precision: Precision, place: Place, calibration: Calibration
) -> Backend:
    """Prepare a model to run in a chosen engine that can run here.

    Raises:
        ConfigError: int8 has no calibration.
    """
    backend: type[Backend] = pkgutil.resolve_name(f"segmnv2.engines.{ENGINES[engine].place}")
    return backend(model, precision, place, calibration)


def choose_device(
    device: str | torch.device = AUTO, backend: str = "torch", precision: str = "float32", streams: int = 1
) -> torch.device:
    """Return the device with a name.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:N"``, ``"mps"`` (Apple's GPU), or ``"auto"``: a GPU if there is one on
            which the backend can run with that precision and so many streams, otherwise the CPU.
        backend: the engine; see :func:`segmnv2.engines.selection.create_backend`.
        precision: number format in which the engine computes.
        streams: number of calls that run at once.

    Raises:
        ConfigError: the name is unknown, or the device does not exist here.
    """
    name = str(device)
    if name == AUTO:
        available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        gpus = (torch.device(name) for name, is_available in available.items() if is_available)
        return next((gpu for gpu in gpus if _can_run_on(gpu, backend, precision, streams)), torch.device("cpu"))
    kind, _, number = name.partition(":")
    if name == "cpu":
        return torch.device(name)
    if name != "mps" and (kind != "cuda" or not (number.isdecimal() or name == "cuda")):
        raise ConfigError(f"device: {name!r} is not known; give auto, cpu, cuda, cuda:N or mps")
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device: 'mps' is not available (PyTorch finds no GPU of Apple's); give auto or cpu")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device: {name!r} is not available (PyTorch finds {torch.cuda.device_count()} CUDA devices); give auto or "
            "cpu, or install a CUDA build of PyTorch and a matching driver"
        )
    return torch.device(name)


def _can_run_on(device: torch.device, backend: str, precision: str, streams: int) -> bool:
    try:
        choose_engine(backend, check_precision(precision), device)
        return refuse_streams(backend, streams, device) is None
    except ConfigError:  # an error that also holds for the CPU is raised when the engine is built
        return False
