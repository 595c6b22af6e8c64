"""The device to compute on: by name, or the fastest one here."""

from __future__ import annotations

import torch

from segmnv2.engines.backend import check_precision
from segmnv2.engines.selection import AUTO, choose_engine, refuse_streams
from segmnv2.errors import ConfigError


def choose_device(
    device: str | torch.device = AUTO, backend: str = "torch", precision: str = "float32", streams: int = 1
) -> torch.device:
    """Return the device of a name.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:N"``, ``"mps"`` (Apple's GPU), or ``"auto"``: a GPU if there is one and
            the backend computes on it in that precision and so many streams, else the CPU.
        backend: what shall run the network; see :func:`segmnv2.engines.selection.create_backend`.
        precision: that it shall compute in.
        streams: calls that it shall compute at once.

    Raises:
        ConfigError: the name is unknown, or there is no such device here.
    """
    name = str(device)
    if name == AUTO:
        return next((gpu for gpu in _gpus() if _fits(gpu, backend, precision, streams)), torch.device("cpu"))
    kind, _, number = name.partition(":")
    if name == "cpu":
        return torch.device(name)
    if name != "mps" and (kind != "cuda" or not (number.isdecimal() or name == "cuda")):
        raise ConfigError(f"device: {name!r} is not known; give auto, cpu, cuda, cuda:N or mps")
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device: 'mps' is not there (PyTorch sees no GPU of Apple's); give auto or cpu")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device: {name!r} is not there ({torch.cuda.device_count()} CUDA devices are seen); give auto or cpu, or "
            "install a CUDA build of PyTorch and a driver that fits it"
        )
    return torch.device(name)


def _gpus() -> list[torch.device]:
    """Return the GPUs that ``"auto"`` may take, the first choice first."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [torch.device(name) for name, is_here in here.items() if is_here]


def _fits(device: torch.device, backend: str, precision: str, streams: int) -> bool:
    try:
        choose_engine(backend, check_precision(precision), device)
        return refuse_streams(backend, streams, device) is None
    except ConfigError:  # is raised again, in words for the CPU, when the engine is built
        return False
