"""Prediction for one image, and the image laid out for the model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import PIL.Image
from jaxtyping import Float32, UInt8

from segmnv2.data.mask_file import write_mask
from segmnv2.inference.canvas import Canvas
from segmnv2.inference.overlay import DEFAULT_OPACITY, overlay_picture
from segmnv2.inference.scores import Scores
from segmnv2.labels import LabelSet


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image, read and laid out.

    Attributes:
        image: (H, W, 3) uint8 RGB, 0..255, upright.
        canvas: what the network will see of it.
        source: what error messages call it.
    """

    image: UInt8[np.ndarray, "h w 3"]
    canvas: Canvas
    source: str


@dataclass(frozen=True, eq=False)
class Prediction:
    """Prediction for one image.

    Attributes:
        image: (H, W, 3) uint8 RGB, 0..255: the image that was looked at, upright.
        mask: (H, W) uint8 class ids.
        labels: names and colors of the classes.
        scores: the model's passes, from which more is read out on request.
    """

    image: UInt8[np.ndarray, "h w 3"]
    mask: UInt8[np.ndarray, "h w"]
    labels: LabelSet
    scores: Scores

    @cached_property
    def confidence(self) -> Float32[np.ndarray, "h w"]:
        """(H, W) probability, 0..1, of each pixel's class; computed at first use."""
        return self.scores.confidence()

    def probabilities(self) -> Float32[np.ndarray, "k h w"]:
        """Return (num_classes, H, W) probabilities, 0..1; large for large images, and computed on each call."""
        return self.scores.probabilities()

    def overlay(self, opacity: float = DEFAULT_OPACITY, legend: bool = True) -> PIL.Image.Image:
        """Return the image under its classes' colors, with a legend beside it.

        Args:
            opacity: 0 for outlines only, 1 for plain colors.
            legend: names, colors and shares of the classes present, in a strip that covers nothing of the image.

        Raises:
            ConfigError: ``opacity`` is not in 0..1.
        """
        return overlay_picture(self.image, self.mask, self.labels, opacity, legend)

    def save_mask(self, path: str | Path) -> None:
        """Write the class ids as a palette PNG in the classes' colors."""
        write_mask(path, self.mask, self.labels)
