"""Augmentation of images and their boxes for detectors, by torchvision's transforms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from segmnv2.data.image_transforms import color_steps
from segmnv2.data.sample import Target
from segmnv2.data.transforms import ColorJitter

BoxedImage = tuple[UInt8[Tensor, "3 h w"], Target]


class BoxTransform:
    """Random mirroring, and on request a random crop and color changes, for an image with boxes.

    Args:
        flip: probability of mirroring left and right.
        iou_crop: whether to take a random crop with a random minimum overlap with a box, as in SSD.
        colors: color changes, or ``None``.

    Source: SSD (Liu et al. 2016, arXiv 1512.02325), section 2.2; ``ssd_random_crop`` of TensorFlow's
    ssdlite_mobilenet_v2_coco.config.
    """

    def __init__(self, flip: float = 0.5, *, iou_crop: bool = False, colors: ColorJitter | None = None) -> None:
        self._always = v2.Compose([v2.RandomHorizontalFlip(flip), *color_steps(colors)])
        self._crop = v2.Compose([v2.RandomIoUCrop(), v2.SanitizeBoundingBoxes(min_size=1)]) if iou_crop else None

    def __call__(self, sample: BoxedImage, seed: int) -> BoxedImage:
        """Augment an image and its boxes; the result is a pure function of both and the seed.

        Args:
            sample: uint8 RGB (3, h, w), and its boxes; an image without boxes is not cropped.
            seed: at least 0.
        """
        pixels, target = sample
        values = {
            "image": tv_tensors.Image(pixels),
            "boxes": tv_tensors.BoundingBoxes(
                target["boxes"],
                format=tv_tensors.BoundingBoxFormat.XYXY,
                canvas_size=(pixels.shape[1], pixels.shape[2]),
            ),
            "labels": target["labels"],
        }
        # torchvision uses torch's global generator; its state outside must not change.
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            if self._crop is not None and len(target["boxes"]):
                values = self._crop(values)
            values = self._always(values)
        plain = {key: value.as_subclass(Tensor) for key, value in values.items()}
        return plain["image"], {**target, "boxes": plain["boxes"], "labels": plain["labels"]}


def collate_boxes(samples: Sequence[BoxedImage]) -> dict[str, object]:
    """Return a batch of images of any sizes.

    Returns:
        ``images``: a list of uint8 (3, h, w), RGB 0..255; ``targets``: their boxes; ``name``: their files.
    """
    return {
        "images": [pixels for pixels, _ in samples],
        "targets": [target for _, target in samples],
        "name": [target["name"] for _, target in samples],
    }
