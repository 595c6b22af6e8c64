"""Labels that do not flicker: the logits of a video's frames, averaged over time.

The rule, with ``share`` in 0..1 (1 excluded):

    average = (1 - share) * logits of this frame + share * average before

at output stride, for each pass of the network on its own: an exponential moving average in which a frame counts
``share`` times as much as the one after it. Logits rather than probabilities, so that labels, confidence and
probabilities all come from the same numbers; the mean of logits is the geometric mean of probabilities. The average
restarts with

- the first frame,
- a frame of another size,
- a scene cut: shrunk to 32 x 32 pixels, each the mean of its area, two frames differ by more than 30 of 255 on
  average.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segmnv2.errors import ConfigError
from segmnv2.inference.scores import Scores

THUMBNAIL = 32
"""Sides of the images that scene cuts are seen on: motion within a scene changes little at that size."""

CUT = 30.0
"""Mean difference, of 255, from which two frames belong to different scenes."""


class Smoother:
    """Averages the logits of frames that come in order."""

    def __init__(self, share: float) -> None:
        """Begin with no frame.

        Args:
            share: of the frames before in the average, 0 (none: frames stay unchanged) up to 1, excluded.

        Raises:
            ConfigError: ``share`` is outside.
        """
        self.share = check_share(share)
        self._average: list[Float[Tensor, "_ _ _"]] = []
        self._thumbnail: Float[np.ndarray, "a a 3"] | None = None

    def __call__(self, image: UInt8[np.ndarray, "h w 3"], scores: Scores) -> Scores:
        """Return a frame's scores with its logits averaged.

        Args:
            image: the frame, RGB 0..255.
            scores: what the network says of it.
        """
        thumbnail = shrink(image)
        grids = [each.grid for each in scores.passes]
        if self._continues(grids, thumbnail):
            # In this form a video that stands still stays to the bit what it is.
            grids = [torch.lerp(new, old, self.share) for new, old in zip(grids, self._average, strict=True)]
        self._average, self._thumbnail = grids, thumbnail
        passes = [replace(each, grid=grid) for each, grid in zip(scores.passes, grids, strict=True)]
        return replace(scores, passes=passes)

    def _continues(self, grids: list[Tensor], thumbnail: Float[np.ndarray, "a a 3"]) -> bool:
        if self._thumbnail is None or [grid.shape for grid in grids] != [grid.shape for grid in self._average]:
            return False
        return not is_cut(self._thumbnail, thumbnail)


def check_share(share: float) -> float:
    """Return ``share``.

    Raises:
        ConfigError: it is not in 0..1, 1 excluded.
    """
    if not 0 <= share < 1:
        raise ConfigError(f"smooth: {share!r} is not in 0..1, 1 excluded; give 0.5 to 0.9, 0 for no smoothing")
    return share


def shrink(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "a a 3"]:
    """Return the means, 0..255, of 32 x 32 areas of a frame."""
    small = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32)


def is_cut(before: Float[np.ndarray, "a a 3"], after: Float[np.ndarray, "a a 3"]) -> bool:
    """Return whether a new scene begins between two frames, by their thumbnails."""
    return float(np.abs(after - before).mean()) > CUT
