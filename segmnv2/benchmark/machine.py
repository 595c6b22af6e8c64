"""Description of the machine, peak memory, and computation on one core."""

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
    """Return the properties of the machine that affect speed, as JSON values.

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
    """Return the values of an experiment that affect speed most, as JSON values."""
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
    """Return the number of cores that this process may use; a container or ``taskset`` may restrict it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def forget_peak_memory(device: torch.device) -> None:
    """Reset the memory peak to the current use; the peak of the whole process can be reset only on Linux."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    gc.collect()
    with suppress(OSError):
        CLEAR_REFS.write_text("5")  # sets the peak to the resident memory; see `man 5 proc`


def peak_memory(device: torch.device) -> float | None:
    """Return the peak memory in megabytes (10^6 bytes); ``None`` if the system does not report it.

    On a GPU it is the memory of tensors since :func:`forget_peak_memory`. On a CPU it is the memory of the whole
    process since then, or since its start if the peak cannot be reset.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MEGABYTE
    with suppress(OSError):  # `getrusage` also counts the program that ran in this process before
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
    """Let PyTorch and OpenCV compute on one core while the block runs, as in a process that reads data."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        with torch_threads(1):
            yield
    finally:
        cv2.setNumThreads(before)
