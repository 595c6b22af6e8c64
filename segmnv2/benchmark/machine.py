"""The machine: what it is, how much memory was used, and how to make it read data on one core."""

from __future__ import annotations

import gc
import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import torch

from segmnv2.config.segmentation_schema import Experiment
from segmnv2.engines.pytorch import torch_threads

MEGABYTE = 1e6

CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
PEAK = re.compile(r"VmHWM:\s*(\d+) kB")


def describe_machine(device: str) -> dict[str, Any]:
    """Return what speeds depend on, as JSON values.

    Args:
        device: ``"cpu"`` or ``"cuda"``, with or without a number.
    """
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.startswith("cuda") else {}
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        **gpu,
        "cores": core_count(),
        "threads": torch.get_num_threads(),
    }


def describe_experiment(experiment: Experiment) -> dict[str, Any]:
    """Return which of an experiment's values speeds depend on most, as JSON values."""
    data = experiment.data
    return {
        "experiment": experiment.name,
        "batch": data.batch_size,
        "crop": data.crop_size,
        "output stride": experiment.model.output_stride,
        "precision": experiment.precision,
        "channels last": experiment.channels_last,
    }


def core_count() -> int:
    """Return how many cores this process may use; a container or ``taskset`` may allow fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def synchronize(device: torch.device) -> None:
    """Wait for a GPU to finish what it was given; without this only the giving would be timed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak_memory(device: torch.device) -> None:
    """Begin to measure memory from zero, from what is held now; a process's own peak is forgotten on Linux only."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    gc.collect()
    with suppress(OSError):
        CLEAR_REFS.write_text("5")  # which sets the peak to what is resident; see `man 5 proc`


def peak_memory(device: torch.device) -> float | None:
    """Return the most memory used, in megabytes of 10^6 bytes; ``None`` where the system does not report it.

    On a GPU it is what tensors took since :func:`forget_peak_memory`, on a CPU what the whole process took, since then
    or, where that cannot be forgotten, since its start.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MEGABYTE
    with suppress(OSError):  # `getrusage` also counts the program that began this one, before it did
        if found := PEAK.search(STATUS.read_text()):
            return int(found[1]) * 1024 / MEGABYTE
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / MEGABYTE


@contextmanager
def one_core() -> Iterator[None]:
    """Let PyTorch and OpenCV compute on one core while the block runs, as they do in a reading process."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        with torch_threads(1):
            yield
    finally:
        cv2.setNumThreads(before)
