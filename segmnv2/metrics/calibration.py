"""Calibration: whether a confidence of 90 % is right for 90 % of the pixels."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

Mask = UInt8[np.ndarray, "h w"]

BINS = 15


class Calibration:
    """Confidences of predictions, and the share of them that is right.

    Attributes:
        pixels: number of pixels in each bin of confidence.
        confidence: sum of the confidences in each bin.
        right: number of right pixels in each bin.
    """

    def __init__(self, ignore_index: int) -> None:
        """Begin with no image.

        Args:
            ignore_index: mask value that does not count.
        """
        self.pixels, self.confidence, self.right = (np.zeros(BINS) for _ in range(3))
        self._ignore = ignore_index

    def update(self, mask: Mask, prediction: Mask, confidence: np.ndarray) -> None:
        """Count an image.

        Args:
            mask: (H, W) true class ids, or the ignored value.
            prediction: (H, W) predicted class ids.
            confidence: (H, W) probability of the predicted class, 0..1.
        """
        counted = mask != self._ignore
        values = confidence[counted].astype(np.float64)
        bins = np.minimum((values * BINS).astype(np.int64), BINS - 1)
        right = (mask[counted] == prediction[counted]).astype(np.float64)
        for total, weights in ((self.pixels, None), (self.confidence, values), (self.right, right)):
            total += np.bincount(bins, weights, minlength=BINS)

    @property
    def error(self) -> float:
        """Expected calibration error, 0..1: mean of |accuracy - confidence| over pixels; NaN without pixels.

        Source: Guo et al. 2017, arXiv 1706.04599.
        """
        total = self.pixels.sum()
        return float(np.abs(self.right - self.confidence).sum() / total) if total else float("nan")

    def points(self) -> list[tuple[float, float, float]]:
        """Return (mean confidence, accuracy, share of the pixels), each 0..1, of the bins that have pixels."""
        filled = np.flatnonzero(self.pixels)
        total = self.pixels.sum()
        return [
            (self.confidence[i] / self.pixels[i], self.right[i] / self.pixels[i], self.pixels[i] / total)
            for i in filled
        ]
