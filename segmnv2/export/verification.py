"""Results of comparing an export with its network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from segmnv2.counting import counted
from segmnv2.export.metadata import ExportMetadata
from segmnv2.export.timing import Latencies


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
