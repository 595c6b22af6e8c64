"""Latency of an export beside the network in PyTorch, from image array to label map."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from segmnv2.export.opened import OpenedExport
from segmnv2.inference.scores import predict_labels
from segmnv2.models.segmenter import Segmenter

WARM_UP = 2


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one image.

    Attributes:
        median: of all runs.
        low: a quarter of the runs were faster.
        high: a quarter were slower.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Return the quartiles of some runs."""
        low, median, high = np.percentile(seconds, (25, 50, 75)) * 1000
        return cls(float(median), float(low), float(high))

    def __str__(self) -> str:
        """Return "12.3 ms (11.9..13.0)"."""
        return f"{self.median:.1f} ms ({self.low:.1f}..{self.high:.1f})"


@dataclass(frozen=True)
class Latencies:
    """Times of both on the same image, in turns, so that other load of the machine slows both.

    Attributes:
        export: of the file in its runtime.
        network: of the network in PyTorch, eager.
        size: (height, width) of the image.
        runs: of each.
    """

    export: Latency
    network: Latency
    size: tuple[int, int]
    runs: int


def measure_latencies(
    export: OpenedExport, model: Segmenter, image: UInt8[np.ndarray, "h w 3"], runs: int
) -> Latencies:
    """Run a file and its network in turns; PyTorch's number of threads is the caller's.

    Args:
        export: the opened file.
        model: the network, in evaluation mode and channels-last order.
        image: uint8 RGB, 0..255.
        runs: of each.
    """

    def reference() -> object:
        return predict_labels(model, image, size="native")

    calls: list[Callable[[], object]] = [lambda: export(image), reference]
    seconds: list[list[float]] = [[], []]
    for run in range(WARM_UP + runs):
        for call, times in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            if run >= WARM_UP:
                times.append(time.perf_counter() - start)
    return Latencies(Latency.of(seconds[0]), Latency.of(seconds[1]), (image.shape[0], image.shape[1]), runs)
