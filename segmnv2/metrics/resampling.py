"""Confidence in a change of the mean IoU, when the same images were predicted twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from torch import Tensor

RESAMPLES = 10_000


@dataclass(frozen=True)
class Change:
    """A difference of two mean IoUs, 0..1.

    Attributes:
        value: the second minus the first.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return points, as "-0.16 (-0.48 to +0.16)"."""
        return f"{100 * self.value:+.2f} ({100 * self.low:+.2f} to {100 * self.high:+.2f})"


def mean_iou_change(
    before: Int64[Tensor, "n k k"], after: Int64[Tensor, "n k k"], classes: Sequence[int] | None = None
) -> Change:
    """Return how much better the second predictions are, with a paired bootstrap interval over the images.

    Images are drawn with replacement, the same for both, and counts are summed before they are divided, as the mean
    IoU of a data set is. Both being wrong about the same images then widens nothing.

    Args:
        before: one confusion matrix an image, [truth, prediction].
        after: of the same images in the same order.
        classes: ids whose IoUs are averaged; all by default. One that is in neither truth nor prediction has none.
    """
    assert before.shape == after.shape
    draws = np.random.default_rng(0).multinomial(len(before), np.full(len(before), 1 / len(before)), RESAMPLES)
    weights = np.vstack([np.ones(len(before), dtype=np.int64), draws])
    found, *drawn = _mean_iou(weights, after, classes) - _mean_iou(weights, before, classes)
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return Change(float(found), float(low), float(high))


def _mean_iou(
    weights: Int64[np.ndarray, "r n"], confusions: Int64[Tensor, "n k k"], classes: Sequence[int] | None
) -> Float64[np.ndarray, " r"]:
    """Return the mean IoU of each weighting of the images."""
    hits = confusions.diagonal(dim1=1, dim2=2)
    either = confusions.sum(1) + confusions.sum(2) - hits
    chosen = slice(None) if classes is None else list(classes)
    with np.errstate(invalid="ignore"):
        ious = (weights @ hits.numpy()[:, chosen]) / (weights @ either.numpy()[:, chosen])
    mean: Float64[np.ndarray, " r"] = np.nanmean(ious, axis=1)
    return mean
