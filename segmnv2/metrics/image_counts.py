"""Pixel counts of each image, and confidence intervals from resampled images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Int64
from torch import Tensor

ROUNDS = 1000
SEED = 0
INTERVAL = (2.5, 97.5)
"""Percentiles of the 95 % interval."""

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass
class ImageCounts:
    """Hits, true pixels and predicted pixels of each class in each image.

    Attributes:
        names: names of the images.
        rows: for each image int64 (3, K): hits, true pixels, predicted pixels.
    """

    names: list[str] = field(default_factory=list)
    rows: list[Counts] = field(default_factory=list)

    def add(self, name: str, confusion: Int64[Tensor, "k k"]) -> None:
        """Add an image.

        Args:
            name: its name.
            confusion: its pixels, [truth, prediction].
        """
        counts = confusion.cpu().numpy()
        self.names.append(name)
        self.rows.append(np.stack([counts.diagonal(), counts.sum(1), counts.sum(0)]))

    @property
    def counts(self) -> Counts:
        """The counts of all images, int64 (N, 3, K)."""
        return np.stack(self.rows)

    def to_list(self, classes: Sequence[str]) -> list[dict[str, Any]]:
        """Return JSON values: each image's name, and class -> [hits, true pixels, predicted pixels] where not all 0."""
        present = [np.flatnonzero(row.any(0)).tolist() for row in self.rows]
        return [
            {"name": name, "counts": {classes[index]: row[:, index].tolist() for index in ids}}
            for name, row, ids in zip(self.names, self.rows, present, strict=True)
        ]

    @classmethod
    def from_list(
        cls, images: Iterable[tuple[str, Mapping[str, Sequence[int]]]], classes: Sequence[str]
    ) -> ImageCounts:
        """Return the counts of (name, class -> counts), the content of :meth:`to_list`.

        Raises:
            KeyError: a class is not among ``classes``.
        """
        place = {name: index for index, name in enumerate(classes)}
        result = cls()
        for name, counts in images:
            row = np.zeros((3, len(classes)), dtype=np.int64)
            for word, values in counts.items():
                row[:, place[word]] = values
            result.names.append(name)
            result.rows.append(row)
        return result


def count_iou(counts: npt.NDArray[np.int64] | Floats) -> Floats:
    """Return the IoU, 0..1, of counts (..., 3, K) as (..., K); NaN for a class in neither truth nor prediction."""
    hits, truth, predicted = (counts[..., index, :].astype(np.float64) for index in range(3))
    union = truth + predicted - hits
    return np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)


def mean_over_classes(iou: Floats) -> Floats:
    """Return the mean of (..., K) over classes that have an IoU; NaN where no class has one."""
    valid = ~np.isnan(iou)
    total: Floats = np.where(valid, iou, 0).sum(-1)
    count = valid.sum(-1)
    mean: Floats = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return mean


def resample(counts: Counts, rounds: int = ROUNDS, seed: int = SEED) -> Floats:
    """Return the counts of sets of images drawn with replacement, float64 (rounds, 3, K), the same for one seed.

    Args:
        counts: int64 (N, 3, K).
        rounds: number of sets; each has N images.
        seed: seed of the draws.
    """
    images = len(counts)
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=rounds)
    total = drawn.astype(np.float64) @ counts.reshape(images, -1).astype(np.float64)
    return total.reshape(rounds, *counts.shape[1:])


def interval(values: Floats, images: int) -> tuple[float, float]:
    """Return the 95 % percentile interval of values; NaN if there are none, or fewer than two images.

    Args:
        values: one for each set of images.
        images: number of images on which they depend; sets of a single image do not vary.
    """
    finite = values[np.isfinite(values)]
    if not finite.size or images < 2:
        return float("nan"), float("nan")
    low, high = np.percentile(finite, INTERVAL)
    return float(low), float(high)


def miou_interval(counts: Counts) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mIOU over images, 0..1; NaN for a single image."""
    return interval(mean_over_classes(count_iou(resample(counts))), len(counts))
