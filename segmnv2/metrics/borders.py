"""Accuracy near the borders of objects: boundary IoU, and mIOU in bands around the true borders."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from segmnv2.metrics.confusion import ConfusionMatrix, mean_iou

RATIO = 0.02
"""Depth of a boundary as a share of the image's diagonal. Source: Cheng et al. 2021, arXiv 2103.16562."""

WIDTHS = (1, 2, 4, 8, 16, 32)
"""Half widths of the bands, in pixels."""

Mask = UInt8[np.ndarray, "h w"]
Area = Bool[np.ndarray, "h w"]


class Borders:
    """Counts at borders, summed over images.

    Attributes:
        bands: half width in pixels -> confusion matrix of the pixels that close to a true border.
    """

    def __init__(self, num_classes: int, ignore_index: int) -> None:
        """Begin with no image.

        Args:
            num_classes: number of classes.
            ignore_index: mask value that does not count.
        """
        self.bands = {width: ConfusionMatrix(num_classes, ignore_index) for width in WIDTHS}
        self._common = np.zeros(num_classes, dtype=np.int64)
        self._union = np.zeros(num_classes, dtype=np.int64)
        self._ignore = ignore_index

    def update(self, mask: Mask, prediction: Mask) -> None:
        """Count an image.

        Args:
            mask: (H, W) true class ids, or the ignored value.
            prediction: (H, W) predicted class ids.
        """
        counted = mask != self._ignore
        depth = max(1, round(RATIO * float(np.hypot(*mask.shape))))
        for index in np.union1d(mask[counted], prediction[counted]):
            # Ignored pixels are outside both areas, so that their edges are the same in both.
            truth = inner_boundary(mask == index, depth)
            found = inner_boundary((prediction == index) & counted, depth)
            self._common[index] += np.count_nonzero(truth & found)
            self._union[index] += np.count_nonzero(truth | found)
        distance = border_distance(mask)
        for width, band in self.bands.items():
            near = np.where(distance <= width, mask, np.uint8(self._ignore))
            band.update(near, prediction)

    @property
    def boundary_iou(self) -> float:
        """Mean boundary IoU, 0..1, over classes with a boundary in truth or prediction; NaN if there is none."""
        present = self._union > 0
        return float((self._common[present] / self._union[present]).mean()) if present.any() else float("nan")

    def curve(self) -> dict[int, float]:
        """Return half width in pixels -> mIOU, 0..1, of the pixels that near a true border; NaN without such pixels."""
        return {width: mean_iou(band.counts) for width, band in self.bands.items()}


def inner_boundary(area: Area, depth: int) -> Area:
    """Return the pixels of an area that are at most ``depth`` pixels from its edge; the image's edge is one too."""
    kernel = np.ones((3, 3), dtype=np.uint8)
    inside = cv2.erode(np.pad(area, 1).astype(np.uint8), kernel, iterations=depth, borderValue=0)[1:-1, 1:-1]
    return np.asarray(area & (inside == 0), dtype=bool)


def border_distance(mask: Mask) -> np.ndarray:
    """Return each pixel's distance in pixels to a border between values of the mask; infinite without a border."""
    kernel = np.ones((3, 3), dtype=np.uint8)
    border = cv2.dilate(mask, kernel) != cv2.erode(mask, kernel)
    if not border.any():
        return np.full(mask.shape, np.inf, dtype=np.float32)
    distance = cv2.distanceTransform((~border).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    result: np.ndarray = distance + 1
    return result
