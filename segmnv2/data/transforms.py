"""The paper's augmentation. albumentations is used in this file only."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import albumentations as A
import numpy as np
import torch
import torch.nn.functional as F

from segmnv2.data.sample import Image, Mask, Sample
from segmnv2.errors import ConfigError
from segmnv2.labels import IGNORE_INDEX

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)

PAD_VALUE = 128
"""The mean pixel 127.5 rounded to uint8: 0.004 after normalization to -1..1; TensorFlow pads with exactly 0."""


@dataclass(frozen=True)
class ColorJitter:
    """Random changes of color, in random order, each drawn uniformly from its range.

    Attributes:
        brightness: largest change, as a share of the brightness.
        contrast: largest change, as a share of the distance to the mean gray.
        saturation: largest change, as a share of the distance to gray.
        hue: largest rotation of the hue, as a share 0..0.5 of the circle.
        chance: probability that an image is changed, 0..1.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.02
    chance: float = 0.5


class TrainTransform:
    """The paper's augmentation: a random scale, padding to the crop, a random crop, random mirroring.

    Sides become ``int(side * scale)``. The image is resized bilinearly, the mask to the nearest pixel, both with
    aligned corners. Padding is added right and below only: the mean pixel (``PAD_VALUE``, or that of :meth:`pad_with`)
    and the ignore index. Colors change only on request. The model normalizes its input itself.

    Args:
        crop_size: side of the square result, in pixels.
        scales: scale factors, drawn with equal probability.
        flip: probability of mirroring left and right.
        ignore_index: mask value of the padding.
        colors: color changes, which the paper does not use; the padding keeps the mean pixel.

    Raises:
        ConfigError: a crop size below 1, no scales or one that is not positive, a probability outside 0..1.

    Source: tensorflow/models research/deeplab, ``input_preprocess.py`` and ``core/preprocess_utils.py``.
    """

    def __init__(
        self,
        crop_size: int,
        scales: Sequence[float] = SCALES,
        flip: float = 0.5,
        ignore_index: int = IGNORE_INDEX,
        colors: ColorJitter | None = None,
    ) -> None:
        if crop_size < 1 or not scales or min(scales) <= 0 or not 0 <= flip <= 1:
            raise ConfigError(
                f"training transform: crop_size {crop_size}, scales {tuple(scales)}, flip {flip}; "
                "crop_size must be at least 1, scales positive and at least one, flip in 0..1"
            )
        self.crop_size = crop_size
        fill = {"fill": PAD_VALUE, "fill_mask": ignore_index}
        self._padding = A.PadIfNeeded(crop_size, crop_size, position="top_left", **fill)
        self._pipeline = A.Compose(
            [
                *([_jitter(colors)] if colors else []),
                RandomScale(scales),
                self._padding,
                A.RandomCrop(crop_size, crop_size),
                A.HorizontalFlip(p=flip),
            ]
        )

    def pad_with(self, mean_pixel: Sequence[float]) -> None:
        """Pad with the mean pixel of a model, RGB 0..255, rounded to integers, instead of ``PAD_VALUE``."""
        self._padding.fill = [int(value + 0.5) for value in mean_pixel]

    def __call__(self, sample: Sample, seed: int) -> Sample:
        """Augment a sample; the result is a pure function of the sample and the seed.

        Args:
            sample: image and mask of any size.
            seed: at least 0.

        Returns:
            Image uint8 (crop, crop, 3) and mask uint8 (crop, crop).
        """
        # One generator for all steps. Compose.set_random_seed would give each step a generator with the same
        # seed, so that scale, crop position and mirroring would not be independent.
        self._pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        result = self._pipeline(image=sample.image, mask=sample.mask)
        return Sample(result["image"], result["mask"], sample.name)


def _jitter(colors: ColorJitter) -> A.ColorJitter:
    return A.ColorJitter(
        brightness=(1 - colors.brightness, 1 + colors.brightness),
        contrast=(1 - colors.contrast, 1 + colors.contrast),
        saturation=(1 - colors.saturation, 1 + colors.saturation),
        hue=(-colors.hue, colors.hue),
        p=colors.chance,
    )


class RandomScale(A.DualTransform):  # type: ignore[misc]
    """Resize by a random factor of a discrete set, with aligned corners, which OpenCV and albumentations lack.

    Args:
        scales: scale factors, drawn with equal probability.
    """

    def __init__(self, scales: Sequence[float]) -> None:
        super().__init__(p=1.0)
        self.scales = tuple(scales)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the factor and return the new size."""
        scale = self.py_random.choice(self.scales)
        height, width = params["shape"][:2]
        return {"size": (max(1, int(height * scale)), max(1, int(width * scale)))}

    def apply(self, img: Image, size: tuple[int, int], **_: Any) -> Image:
        """Resize an image."""
        return resize_image(img, size)

    def apply_to_mask(self, mask: Mask, size: tuple[int, int], **_: Any) -> Mask:
        """Resize a mask."""
        return resize_mask(mask, size)


def resize_image(image: Image, size: tuple[int, int]) -> Image:
    """Resize bilinearly with aligned corners, rounded to uint8 (within one gray level of the exact value).

    Args:
        image: uint8 (H, W, 3).
        size: height and width of the result.
    """
    if image.shape[:2] == size:
        return image
    pixels = torch.from_numpy(image)[None].permute(0, 3, 1, 2)  # channels last in memory
    resized = F.interpolate(pixels, size=size, mode="bilinear", align_corners=True)[0]
    return np.asarray(resized.permute(1, 2, 0))


def resize_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """Resize to the nearest pixel with aligned corners; halves round up, as in TensorFlow.

    Args:
        mask: uint8 (H, W).
        size: height and width of the result.
    """
    rows, columns = (_nearest(old, new) for old, new in zip(mask.shape, size, strict=True))
    resized: np.ndarray = mask[rows][:, columns]
    return resized


def _nearest(old: int, new: int) -> np.ndarray:
    """Return the nearest of ``old`` positions for each of ``new`` ones, in integers so that halves are exact."""
    if new == 1:
        return np.zeros(1, np.intp)
    positions: np.ndarray = (2 * np.arange(new) * (old - 1) + (new - 1)) // (2 * (new - 1))
    return positions
