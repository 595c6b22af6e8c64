"""Results of comparing an export with its network.

Latency of an export beside the network in PyTorch, from image array to label map.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from segmnv2.errors import counted
from segmnv2.export.export_metadata import ExportMetadata
from segmnv2.export.formats import OpenedExport
from segmnv2.inference.scores import predict_labels
from segmnv2.models.segmenter import Segmenter


@dataclass(frozen=True)
class LogitError:
    """Difference between the file's logits and the network's.

    Attributes:
        mean: absolute difference, in standard deviations of the network's logits.
        largest: the same of the worst logit.
    """

    mean: float
    largest: float

    @classmethod
    def between(cls, found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> LogitError:
        """Return the error over one image's logits, of equal shapes."""
        difference = np.abs(found - expected) / expected.std()
        return cls(float(difference.mean()), float(difference.max()))

    @classmethod
    def mean_of(cls, errors: Sequence[LogitError]) -> LogitError:
        """Return the mean over images, and the largest of all."""
        return cls(float(np.mean([each.mean for each in errors])), max(each.largest for each in errors))


@dataclass(frozen=True)
class Verification:
    """Result of a verification.

    Attributes:
        metadata: what the file says of itself.
        images: name of the folder that the images are from, or ``None`` if they were drawn for the network.
        count: of images.
        classes: that the network saw in them; labels of few classes prove little.
        agreement: share of pixels, over all images, whose label is the network's own.
        worst: the same share on the image where it is least.
        logits: their error, of a file that gives out logits; labels alone do not show it.
        miou_before: of the network, in percent, if there were masks.
        miou_after: of the file.
        size: bytes of all the file's parts.
        latency: of both, if measured.
        threads: of both.
    """

    metadata: ExportMetadata
    images: str | None
    count: int
    classes: int
    agreement: float
    worst: float
    logits: LogitError | None
    miou_before: float | None
    miou_after: float | None
    size: int
    latency: Latencies | None
    threads: int

    @property
    def source(self) -> str:
        """Number and origin of the images, as "8 images of FOLDER"."""
        if self.images is None:
            return counted(self.count, "drawn image")
        return f"{counted(self.count, 'image')} of {self.images}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        values = asdict(self)
        values["metadata"] = self.metadata.to_dict()
        return values

    def rows(self) -> dict[str, str]:
        """Return a table of two columns."""
        rows = {
            "compared on": self.source,
            "classes that the network finds there": f"{self.classes} of {self.metadata.labels.num_classes}",
            "pixels with the network's own label": f"{100 * self.agreement:.4f} %",
            "the same on the worst image": f"{100 * self.worst:.4f} %",
        }
        if self.logits is None:
            rows["logit error"] = "not known: the file gives out labels"
        else:
            rows["logit error, in standard deviations"] = (
                f"mean {self.logits.mean:.2g}, largest {self.logits.largest:.2g}"
            )
        if self.miou_before is not None and self.miou_after is not None:
            change = self.miou_after - self.miou_before
            rows["mIOU before, after"] = f"{self.miou_before:.2f} %, {self.miou_after:.2f} % ({change:+.2f})"
        rows["size"] = f"{self.size / 1e6:.2f} MB"
        if self.latency is not None:
            height, width = self.latency.size
            threads = counted(self.threads, "thread")
            rows[f"latency at {width}x{height}, {threads}, median (quartiles)"] = str(self.latency.export)
            rows["that of the network in PyTorch"] = str(self.latency.network)
            rows["times as fast"] = f"{self.latency.network.median / self.latency.export.median:.2f}"
        return rows


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
