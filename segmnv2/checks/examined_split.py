"""Summaries of the pairs of a split, and frequencies of its classes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from segmnv2.checks.inspection import Colors
from segmnv2.datasets.listing import Listing, Pair
from segmnv2.files.yaml_documents import dump_yaml
from segmnv2.labels import LabelSet

_DIGITS = 4


@dataclass
class Frequencies:
    """Counts over the masks of a split.

    Attributes:
        masks: number of masks.
        pixels: int64 (256,), number of pixels of each id.
        images: int64 (256,), number of masks with the id.
        around: int64 (256,), number of labeled pixels in the masks with the id.
    """

    masks: int = 0
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    images: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    around: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))

    def add(self, counts: np.ndarray, labels: LabelSet) -> None:
        """Add a mask. ``counts`` is the number of pixels of each id, int64 (256,)."""
        self.masks += 1
        self.pixels += counts
        self.images += counts > 0
        self.around += np.where(counts > 0, counts[: labels.num_classes].sum(), 0)

    def table(self, labels: LabelSet) -> dict[str, dict[str, float]]:
        """Return class name -> number of pixels and images, and their shares, 0..1, of all labeled pixels and masks."""
        total = int(self.pixels[: labels.num_classes].sum())
        return {
            name: {
                "pixels": int(self.pixels[index]),
                "pixel_share": int(self.pixels[index]) / max(1, total),
                "images": int(self.images[index]),
                "image_share": int(self.images[index]) / max(1, self.masks),
            }
            for index, name in enumerate(labels.names)
        }

    def ignored_share(self, labels: LabelSet) -> float:
        """Return the share of pixels, 0..1, that are ignored."""
        return int(self.pixels[labels.ignore_index]) / max(1, int(self.pixels.sum()))

    def weights(self, labels: LabelSet) -> dict[str, float]:
        """Return a weight for each class that occurs, by median frequency balancing.

        The frequency of a class is its share of the pixels in the images that contain it. Its weight is the median
        frequency of all classes, divided by its own frequency.

        Source: Eigen and Fergus 2015, Predicting Depth, Surface Normals and Semantic Labels with a Common Multi-Scale
            Convolutional Architecture, the experiments on semantic labels.
        """
        ids = np.flatnonzero(self.pixels[: labels.num_classes])
        if not len(ids):
            return {}
        frequencies = self.pixels[ids] / self.around[ids]
        weights = np.median(frequencies) / frequencies
        return {labels.names[i]: float(f"{weight:.{_DIGITS}g}") for i, weight in zip(ids, weights, strict=True)}


def weights_yaml(weights: dict[str, float]) -> str:
    """Return weights as lines of an experiment's YAML file."""
    return dump_yaml({"loss": {"class_weights": weights}})


@dataclass(frozen=True)
class Kept:
    """Summary of a pair that was read.

    Attributes:
        pair: files of the pair.
        index: index of the pair in the listing.
        image_digest, mask_digest, thumbnail, colors: as in :class:`segmnv2.checks.inspection.Reading`.
        ids: the ids that occur, as one bit each; ``None`` if they are unknown.
    """

    pair: Pair
    index: int
    image_digest: bytes | None
    mask_digest: bytes | None
    thumbnail: bytes | None
    ids: bytes | None
    colors: Colors = ()

    def holds(self) -> set[int]:
        """Return the ids that occur."""
        return set() if self.ids is None else set(np.flatnonzero(np.unpackbits(np.frombuffer(self.ids, np.uint8))))


@dataclass
class ExaminedSplit:
    """A split and the summaries of its pairs.

    Attributes:
        listing: the split.
        kept: summary of each pair that was read.
        frequencies: frequencies of its classes.
    """

    listing: Listing
    kept: list[Kept] = field(default_factory=list)
    frequencies: Frequencies = field(default_factory=Frequencies)
