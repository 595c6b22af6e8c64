"""Image transforms for classifiers, built on torchvision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms import v2

from segmnv2.data.sample import LabeledImage
from segmnv2.data.transforms import ColorJitter


class CropTransform:
    """Training transform: a random part of the image scaled to a square, random mirroring, and color changes.

    Args:
        crop_size: side of the result, in pixels.
        area: smallest and largest area of the part, as shares of the image's area.
        aspect: smallest and largest ratio of width to height of the part.
        flip: probability of mirroring left and right.
        colors: color changes, or ``None``.

    Source: slim/preprocessing/inception_preprocessing.py (area, aspect and mirroring).
    """

    def __init__(
        self,
        crop_size: int,
        area: tuple[float, float] = (0.05, 1.0),
        aspect: tuple[float, float] = (0.75, 1.33),
        flip: float = 0.5,
        colors: ColorJitter | None = None,
    ) -> None:
        crop = v2.RandomResizedCrop(crop_size, scale=area, ratio=aspect, antialias=True)
        self._pipeline = v2.Compose([crop, v2.RandomHorizontalFlip(flip), *color_steps(colors)])

    def __call__(self, sample: LabeledImage, seed: int) -> LabeledImage:
        """Augment an image; the result is a pure function of the image and the seed.

        Args:
            sample: image of any size.
            seed: at least 0.

        Returns:
            Image uint8 (crop, crop, 3), and its class.
        """
        # torchvision uses torch's global generator; its state outside must not change.
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            pixels = self._pipeline(_to_tensor(sample.image))
        return LabeledImage(_to_array(pixels), sample.label, sample.name)


class CentralTransform:
    """Evaluation transform: the image is scaled, and its center is cropped.

    Args:
        crop_size: side of the result, in pixels.
        central: side of the crop as a share of the scaled image's shorter side; 0.875 crops 224 of 256 pixels.

    Source: torchvision's reference evaluation (antialiased bilinear resize).
    """

    def __init__(self, crop_size: int, central: float = 0.875) -> None:
        self.crop_size = crop_size
        self.central = central
        self._pipeline = v2.Compose(
            [v2.Resize(round(crop_size / central), antialias=True), v2.CenterCrop(crop_size)],
        )

    def __call__(self, sample: LabeledImage, _seed: int = 0) -> LabeledImage:
        """Return the center of an image, uint8 (crop, crop, 3), and its class."""
        return LabeledImage(_to_array(self._pipeline(_to_tensor(sample.image))), sample.label, sample.name)


def collate_images(samples: Sequence[LabeledImage]) -> dict[str, object]:
    """Stack images of one size.

    Returns:
        ``pixels``: uint8 (b, 3, h, w), RGB 0..255, channels last in memory; ``label``: int64 (b); ``name``: a list.
    """
    pixels = torch.from_numpy(np.stack([sample.image for sample in samples]))
    return {
        "pixels": pixels.permute(0, 3, 1, 2),
        "label": torch.tensor([sample.label for sample in samples]),
        "name": [sample.name for sample in samples],
    }


def color_steps(colors: ColorJitter | None) -> list[torch.nn.Module]:
    """Return torchvision's steps for color changes."""
    if colors is None:
        return []
    jitter = v2.ColorJitter(colors.brightness, colors.contrast, colors.saturation, colors.hue)
    return [v2.RandomApply([jitter], p=colors.chance)]


def _to_tensor(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[Tensor, "3 h w"]:
    return torch.from_numpy(image).permute(2, 0, 1)


def _to_array(pixels: UInt8[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
