"""The canvas: how an image of any size becomes the network's input.

The rule, with ``size`` an integer (513 by default):

- An image whose sides are both at most ``size`` keeps its pixels and is padded to the right and below, with the mean
  pixel, to ``size`` by ``size``. At 513 this is TensorFlow's protocol.
- A larger one is first scaled down, antialiased, so that its longest side is ``size``.

With ``size="native"`` nothing is scaled and only as much is padded as the network's grid needs. In both cases the
canvas' sides are rounded up to k * output_stride + 1 with k >= 1, for which the cells of the logits lie exactly on
every ``output_stride``-th pixel. (513 has that form at every output stride.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segmnv2.errors import ConfigError, MediaError

T = TypeVar("T")

Size = int | Literal["native"]

DEFAULT_SIZE = 513
SMALLEST_SIZE = 17

MEAN_PIXEL = (127.5, 127.5, 127.5)
"""RGB of the padding for networks that normalize to -1..1: the pixel that becomes 0."""

Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Canvas:
    """An image laid out for the network, and where it lies on it.

    Attributes:
        pixels: (1, 3, h, w) float RGB, 0..255, channels last in memory; the image fills the upper left corner.
        content: (height, width) of the image on the canvas, in canvas pixels.
        image_size: (height, width) of the image as it came.
    """

    pixels: Float[Tensor, "1 3 h w"]
    content: tuple[int, int]
    image_size: tuple[int, int]


def check_size(size: object) -> Size:
    """Return ``size`` if it is an integer of at least 17 or ``"native"``.

    Raises:
        ConfigError: it is anything else.
    """
    if size == "native":
        return "native"
    if isinstance(size, int) and not isinstance(size, bool) and size >= SMALLEST_SIZE:
        return size
    raise ConfigError(
        f"size: {size!r} is not an integer of at least {SMALLEST_SIZE} nor 'native'; give the longest side in pixels "
        f"of the network's input ({DEFAULT_SIZE} is the paper's), or 'native' for no scaling"
    )


def check_image(image: object, source: str = "image") -> UInt8[np.ndarray, "h w 3"]:
    """Return ``image`` as a (H, W, 3) array; a (H, W) gray one has its channel repeated.

    Args:
        image: uint8 RGB array, 0..255.
        source: what error messages call it.

    Raises:
        MediaError: not an array, another data type, another shape, or no pixels.
    """
    if not isinstance(image, np.ndarray):
        raise MediaError(f"{source}: is a {type(image).__name__}; give a uint8 (H, W, 3) RGB NumPy array")
    if image.dtype != np.uint8:
        low, high = (image.min(), image.max()) if image.size and image.dtype.kind in "iufb" else ("?", "?")
        raise MediaError(
            f"{source}: has data type {image.dtype} with values {low}..{high}; give uint8 in 0..255 (from "
            "floats in 0..1: `(image * 255).round().astype(np.uint8)`)"
        )
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise MediaError(f"{source}: has shape {image.shape}; {_shape_remedy(image)}")
    if image.size == 0:
        raise MediaError(f"{source}: has shape {image.shape}, that is, no pixels; give an image of at least 1x1")
    image = np.asarray(image)  # of a subclass, as np.matrix, the plain array
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def check_several(images: Iterable[T]) -> Iterable[T]:
    """Return ``images`` unless they are one path, one PIL image, or one array, whose rows would pass for gray images.

    Raises:
        MediaError: they are.
    """
    is_array = isinstance(images, np.ndarray) and (
        images.ndim < 3 or (images.ndim == 3 and images.shape[2] in (1, 3, 4))
    )
    if is_array or isinstance(images, str | Path | PIL.Image.Image):
        raise MediaError(f"images: is a single {type(images).__name__}, not several images; give a list, as [image]")
    return images


def _shape_remedy(image: npt.NDArray[Any]) -> str:
    if image.ndim == 3 and image.shape[2] == 4:
        return "drop the alpha channel with `image[..., :3]`, or give a PIL image or a file, which are put on white"
    if image.ndim == 3 and image.shape[0] == 3:
        return "channels come last, (H, W, 3): give `image.transpose(1, 2, 0)`"
    if image.ndim == 4:
        return "give one image at a time, (H, W, 3)"
    return "give RGB of shape (H, W, 3) or gray of shape (H, W)"


def grid_side(side: int, output_stride: int) -> int:
    """Return the smallest k * output_stride + 1, with k >= 1, that is at least ``side``."""
    return max(1, -(-(side - 1) // output_stride)) * output_stride + 1


def make_canvas(
    image: UInt8[np.ndarray, "h w 3"], size: Size, output_stride: int, mean_pixel: Sequence[float] = MEAN_PIXEL
) -> Canvas:
    """Lay an image out for the network by the rule at the top of this file.

    Args:
        image: uint8 RGB, 0..255.
        size: longest side of the network's input, in pixels, or ``"native"``.
        output_stride: the network's, to which the canvas' sides are fitted.
        mean_pixel: RGB, 0..255, of the padding: the network's, which its normalization turns to 0.
    """
    image_size = (image.shape[0], image.shape[1])
    if size == "native":
        height, width = image_size
    else:
        image = _shrink(image, size)
        height = width = size
    sides = (grid_side(height, output_stride), grid_side(width, output_stride))
    pixels = np.full((1, *sides, 3), mean_pixel, dtype=np.float32)
    pixels[0, : image.shape[0], : image.shape[1]] = image
    content = (image.shape[0], image.shape[1])
    return Canvas(torch.from_numpy(pixels).permute(0, 3, 1, 2), content, image_size)


def _shrink(image: Array, size: int) -> Array:
    """Scale down, each pixel the mean of the area it covers, so that no side is longer than ``size``."""
    height, width = image.shape[:2]
    longest = max(height, width)
    if longest <= size:
        return image
    sides = (max(1, round(side * size / longest)) for side in (width, height))
    small = cv2.resize(np.ascontiguousarray(image), tuple(sides), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)
