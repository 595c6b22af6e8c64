"""Images that an export is verified on: drawn ones, and your own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8

from segmnv2.data.image_file import read_image
from segmnv2.data.mask_file import read_mask
from segmnv2.errors import ConfigError, DatasetError
from segmnv2.export.export_metadata import ExportMetadata
from segmnv2.labels import LabelSet
from segmnv2.media.inputs import list_images, spread_evenly
from segmnv2.models.segmenter import Segmenter
from segmnv2.nn.stride import resize_bilinear

STEPS = 12
RATE = 0.2
CELL = 4  # pixels between two colors of the pattern, which are free; it is smooth between, as real images are
MOSAIC = (3, 3)  # rows and columns of the classes that are aimed at


def draw_probe(model: Segmenter, size: tuple[int, int], seed: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image in which a network finds several classes.

    Args:
        model: the network, in evaluation mode, on the CPU; it is not changed.
        size: (height, width) in pixels.
        seed: which pattern, and which classes.

    Returns:
        uint8 RGB, 0..255.
    """
    chance = torch.Generator().manual_seed(seed)
    sides = [-(-side // CELL) + 1 for side in size]
    pattern = torch.rand(1, 3, *sides, generator=chance).mul_(2).sub_(1).requires_grad_()
    classes = torch.randint(model.num_classes, (1, 1, *MOSAIC), generator=chance)
    optimizer = torch.optim.Adam([pattern], lr=RATE)
    for _ in range(STEPS):
        logits = model.raw_logits(_paint(pattern, size))
        wanted = F.interpolate(classes.float(), logits.shape[-2:], mode="nearest")[:, 0].long()
        (pattern.grad,) = torch.autograd.grad(F.cross_entropy(logits, wanted), pattern)
        optimizer.step()
    with torch.no_grad():
        pixels = _paint(pattern, size).round().to(torch.uint8)
    return pixels[0].permute(1, 2, 0).contiguous().numpy()


def _paint(pattern: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return float RGB pixels (1, 3, h, w), 0..255, of a pattern of any range."""
    return 127.5 + 127.5 * torch.tanh(resize_bilinear(pattern, size))


DRAWN_SIZES = ((193, 257), (150, 203), (257, 161), (129, 129))
"""Heights and widths of drawn images for a file that takes any: odd, even, and such that need no padding."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image to verify on.

    Attributes:
        name: of its file.
        image: uint8 RGB, 0..255, as the export takes it.
        content: (height, width) of its upper left part that is not padding.
        mask: (H, W) class ids of the image as it came, or ``None``.
    """

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    content: tuple[int, int]
    mask: UInt8[np.ndarray, "_ _"] | None = None


def draw_pictures(model: Segmenter, metadata: ExportMetadata) -> Iterator[Picture]:
    """Yield drawn images of sizes that the file takes, in which the network finds many classes."""
    for seed, size in enumerate(drawn_sizes(metadata)):
        yield Picture(f"drawn {seed}", draw_probe(model, size, seed), size)


def drawn_sizes(metadata: ExportMetadata) -> tuple[tuple[int, int], ...]:
    """Return the heights and widths of drawn images."""
    return DRAWN_SIZES if metadata.size is None else (metadata.size,) * 2


def list_pictures(
    folder: str | Path, masks: str | Path | None = None, limit: int | None = None
) -> list[tuple[Path, Path | None]]:
    """Return a folder's images, each with its mask, evenly over their order.

    Args:
        folder: of images.
        masks: folder of ``NAME.png`` for each image ``NAME``; images without one are left out.
        limit: how many at most.

    Raises:
        ConfigError: it is no folder, or the limit is below 1.
        MediaError: the folder has no image.
        DatasetError: no image has a mask.
    """
    for each in (folder, masks):
        if each is not None and not Path(each).is_dir():
            raise ConfigError(f"{each}: is no folder; give one with images (and one with masks of the same names)")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit: {limit} images are none; give 1 or more")
    pairs = [(path, None if masks is None else Path(masks) / f"{path.stem}.png") for path in list_images([folder])]
    if masks is not None:
        pairs = [(path, mask) for path, mask in pairs if mask is not None and mask.is_file()]
        if not pairs:
            raise DatasetError(f"{masks}: holds no NAME.png for any image of {folder}; give the masks' folder")
    return spread_evenly(pairs, limit)


def read_picture(path: Path, mask: Path | None, metadata: ExportMetadata, labels: LabelSet) -> Picture:
    """Read an image, and its mask, and fit it to the file's size.

    Raises:
        MediaError: the image cannot be read.
        DatasetError: the mask cannot, or has another size than the image.
    """
    image = read_image(path)
    truth = None if mask is None else read_mask(mask, labels)
    if truth is not None and truth.shape != image.shape[:2]:
        raise DatasetError(f"{mask}: has shape {truth.shape}, its image {image.shape[:2]}; give masks of these images")
    if metadata.size is None:
        return Picture(path.name, image, image.shape[:2], truth)
    fitted, content = fit_image(image, metadata.size, metadata.padding)
    return Picture(path.name, fitted, content, truth)


def fit_image(
    image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], padding: Sequence[float]
) -> tuple[UInt8[np.ndarray, "i j 3"], tuple[int, int]]:
    """Return an image at a fixed size, scaled down if it is larger and padded right and bottom, and the part it fills.

    Args:
        image: uint8 RGB, 0..255.
        size: (height, width) wanted.
        padding: RGB, 0..255, rounded to whole numbers.
    """
    scale = min(1.0, size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (max(1, min(most, round(side * scale))) for side, most in zip(image.shape, size, strict=False))
    if scale < 1:
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    fitted = np.empty((*size, 3), np.uint8)
    fitted[:] = np.round(np.array(padding))
    fitted[:height, :width] = image
    return fitted, (height, width)


def restore_labels(
    labels: UInt8[np.ndarray, "i j"], content: tuple[int, int], shape: tuple[int, ...]
) -> UInt8[np.ndarray, "h w"]:
    """Return labels of a fitted image at the size of the image as it came, each pixel's from the nearest."""
    inside = np.ascontiguousarray(labels[: content[0], : content[1]])
    if inside.shape == shape:
        return inside
    return np.asarray(cv2.resize(inside, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
