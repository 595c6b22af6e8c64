"""A close look at an evaluation: borders, calibration, and the best and worst images."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from segmnv2.data.sample import Sample
from segmnv2.inference.overlay import blend, colorize
from segmnv2.inference.prediction import Prediction
from segmnv2.labels import LabelSet
from segmnv2.media.thumbnails import data_address, shrink
from segmnv2.metrics.borders import Borders
from segmnv2.metrics.calibration import Calibration
from segmnv2.metrics.confusion import mean_iou

SHOWN = 6
"""Number of best images, and of worst ones."""

LONGEST_SIDE = 280
RIGHT, WRONG, IGNORED = (225, 240, 225), (190, 30, 45), (205, 205, 205)


@dataclass(frozen=True)
class Example:
    """An image for the page.

    Attributes:
        name: the image's name.
        miou: its own mIOU, 0..1, over classes in its truth or prediction.
        images: title -> ``data:`` address.
    """

    name: str
    miou: float
    images: dict[str, str]


class CloseLook:
    """Measures that need every pixel, counted image by image; memory does not grow with the number of images."""

    def __init__(self, labels: LabelSet) -> None:
        """Begin with no image.

        Args:
            labels: the data set's classes.
        """
        self.labels = labels
        self.borders = Borders(labels.num_classes, labels.ignore_index)
        self.calibration = Calibration(labels.ignore_index)
        self._best: list[tuple[float, int, Example]] = []
        self._worst: list[tuple[float, int, Example]] = []
        self._number = 0

    def __call__(self, sample: Sample, prediction: Prediction, counts: Int64[Tensor, "k k"]) -> None:
        """Count an image with its prediction, and its pixels as [truth, prediction]."""
        self.borders.update(sample.mask, prediction.mask)
        self.calibration.update(sample.mask, prediction.mask, prediction.confidence)
        miou = mean_iou(counts)
        if not np.isnan(miou):
            self._number += 1
            self._keep(self._best, miou, sample, prediction, miou)
            self._keep(self._worst, -miou, sample, prediction, miou)

    def _keep(
        self, heap: list[tuple[float, int, Example]], rank: float, sample: Sample, prediction: Prediction, miou: float
    ) -> None:
        if len(heap) == SHOWN and rank <= heap[0][0]:
            return
        entry = rank, -self._number, self._draw(sample, prediction, miou)
        heapq.heappush(heap, entry) if len(heap) < SHOWN else heapq.heapreplace(heap, entry)

    def _draw(self, sample: Sample, prediction: Prediction, miou: float) -> Example:
        errors = np.full((*sample.mask.shape, 3), RIGHT, dtype=np.uint8)
        errors[sample.mask != prediction.mask] = WRONG
        errors[sample.mask == self.labels.ignore_index] = IGNORED
        image = shrink(sample.image, LONGEST_SIDE)
        found = shrink(prediction.mask, LONGEST_SIDE, smooth=False)
        tiles = {
            "image": image,
            "truth": colorize(shrink(sample.mask, LONGEST_SIDE, smooth=False), self.labels),
            "prediction": blend(image, found, self.labels),
            "errors": shrink(errors, LONGEST_SIDE, smooth=False),
        }
        return Example(sample.name, miou, {title: data_address(tile) for title, tile in tiles.items()})

    @property
    def best(self) -> list[Example]:
        """The images of the largest mIOU, the largest first."""
        return [example for _, _, example in sorted(self._best, reverse=True)]

    @property
    def worst(self) -> list[Example]:
        """The images of the smallest mIOU, the smallest first."""
        return [example for _, _, example in sorted(self._worst, reverse=True)]
