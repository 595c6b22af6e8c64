"""Canvas, which is the model's input made from an image of any size, and the passes of the model over it.

The rule of the canvas, with ``size`` an integer (513 by default):

- An image whose sides are both at most ``size`` keeps its pixels. It is padded to the right and below with the mean
  pixel, to ``size`` by ``size``. At 513 this is TensorFlow's protocol.
- A larger image is first scaled down, antialiased, so that its longest side is ``size``.

With ``size="native"`` the image is not scaled, and padded only as far as the model's grid needs. In both cases the
sides of the canvas are rounded up to k * output_stride + 1 with k >= 1. Then the points of the logits lie exactly on
every ``output_stride``-th pixel. (513 has this form at every output stride.)

A pass runs the model at one scale, unchanged or mirrored ("MF" in the paper's Table 7). It holds the logits at output
stride, and the positions of the image's pixels on them. These logits are small, so all passes of an image are held
while bands of its rows are computed at full size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor, nn

from segmnv2.engines.backend import DenseModel
from segmnv2.errors import ConfigError, MediaError
from segmnv2.inference.cells import Axis, Cells, sample_bilinear
from segmnv2.nn.stride import resize_bilinear, scaled_side

T = TypeVar("T")

Size = int | Literal["native"]

DEFAULT_SIZE = 513
SMALLEST_SIZE = 17

MEAN_PIXEL = (127.5, 127.5, 127.5)  # RGB of the padding for models that normalize to -1..1: it becomes 0
Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Canvas:
    """The model's input made from an image, and the sizes of the image."""

    # (1, 3, h, w) float RGB, 0..255, channels last in memory; the image fills the upper left corner
    pixels: Float[Tensor, "1 3 h w"]
    content: tuple[int, int]  # (height, width) of the image on the canvas, in canvas pixels
    image_size: tuple[int, int]  # (height, width) of the original image


def check_size(size: object) -> Size:
    """Return ``size`` if it is an integer of at least 17 or ``"native"``, else raise a ConfigError."""
    if size == "native":
        return "native"
    if isinstance(size, int) and not isinstance(size, bool) and size >= SMALLEST_SIZE:
        return size
    raise ConfigError(
        f"size: {size!r} is not an integer of at least {SMALLEST_SIZE} nor 'native'; give the longest side in pixels "
        f"of the model's input ({DEFAULT_SIZE} is the paper's), or 'native' for no scaling"
    )


def check_image(image: object, source: str = "image") -> UInt8[np.ndarray, "h w 3"]:
    """Return an image as uint8 RGB (H, W, 3); a gray (H, W) image has its channel repeated.

    Raises:
        MediaError: it is not an array, has another data type or shape, or no pixels; the message names ``source``.
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
    image = np.asarray(image)  # a plain array in place of a subclass, such as np.matrix
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def check_several(images: Iterable[T]) -> Iterable[T]:
    """Return several images; reject a single path, PIL image or array, whose rows would count as gray images."""
    is_array = isinstance(images, np.ndarray) and (
        images.ndim < 3 or (images.ndim == 3 and images.shape[2] in (1, 3, 4))
    )
    if is_array or isinstance(images, str | Path | PIL.Image.Image):
        raise MediaError(
            f"images: is a single {type(images).__name__}, not several images; give a list, such as [image]"
        )
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
    """Return the canvas of a uint8 RGB image by the rule at the top of this file, padded with ``mean_pixel``."""
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
    """Scale an image down by area averaging, so that no side is longer than ``size``."""
    height, width = image.shape[:2]
    longest = max(height, width)
    if longest <= size:
        return image
    sides = (max(1, round(side * size / longest)) for side in (width, height))
    small = cv2.resize(np.ascontiguousarray(image), tuple(sides), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""Scales of multi-scale inference. Source: tensorflow/models research/deeplab, the paper's evaluation."""


LARGEST_SCALE = 8.0  # a larger number, such as 75, is probably a percentage, and does not fit in memory


@dataclass(frozen=True)
class ModelPass:
    """Logits of one pass, and the positions of the image's rows and columns on them."""

    grid: Float[Tensor, "h w k"]  # (h, w, num_classes) logits at output stride
    rows: Axis  # positions of the image's rows on the grid
    columns: Axis  # positions of the image's columns, in descending order for a mirrored pass

    def logits(self, rows: slice) -> Float[Tensor, "i j k"]:
        """Return the logits of a band of the image's rows, at full size."""
        return sample_bilinear(self.grid, self.rows[rows], self.columns)

    def labels(self) -> UInt8[Tensor, "i j"]:
        """Return the best class at each pixel of the image."""
        return Cells(self.grid).labels(self.rows, self.columns)


def choose_scales(multi_scale: bool | Sequence[float]) -> tuple[float, ...]:
    """Return the scales of an argument ``multi_scale``: the paper's six for ``True``, 1.0 for ``False``, or its own."""
    if isinstance(multi_scale, bool):
        return SCALES if multi_scale else (1.0,)
    return check_scales(multi_scale)


def check_flip(flip: object) -> bool:
    """Return ``flip`` if it is a boolean, not a word such as "false"; else raise a ConfigError."""
    if isinstance(flip, bool | np.bool_):
        return bool(flip)
    raise ConfigError(f"flip: {flip!r} is not possible; give True or False")


def check_scales(scales: object) -> tuple[float, ...]:
    """Return ``scales`` as a tuple.

    Raises:
        ConfigError: it is not a list, tuple or array of numbers above 0 and at most :data:`LARGEST_SCALE`.
    """
    numbers: tuple[float, ...] = ()
    if isinstance(scales, list | tuple | np.ndarray):
        with suppress(TypeError, ValueError):
            numbers = tuple(float(scale) for scale in scales)
    if not numbers or not all(0 < number <= LARGEST_SCALE for number in numbers):
        raise ConfigError(
            f"scales: {scales!r} is not one or more numbers above 0 and at most {LARGEST_SCALE:g}; give (1.0,) or "
            f"{SCALES}"
        )
    return numbers


def is_training(model: DenseModel) -> bool:
    """Return whether a model, or one of its layers, is in training mode."""
    layers = model.modules() if isinstance(model, nn.Module) else (model,)
    return any(layer.training for layer in layers)


def scale_pixels(pixels: Float[Tensor, "b 3 h w"], scale: float) -> Float[Tensor, "b 3 i j"]:
    """Return canvases at a scale, with sides of ``int((side - 1) * scale + 1)``, as in TensorFlow."""
    height, width = pixels.shape[-2:]
    return resize_bilinear(pixels, (scaled_side(height, scale), scaled_side(width, scale)))


def run_passes(
    model: DenseModel, canvases: Sequence[Canvas], scales: Sequence[float], flip: bool
) -> list[list[ModelPass]]:
    """Run the model on canvases of one size, at each scale; return the passes of each canvas.

    With ``flip``, it is also run on the mirrored canvases. As in TensorFlow, the padding is scaled and mirrored too.

    Raises:
        ConfigError: the model or a part of it is in training mode.

    Source: ``predict_labels_multi_scale`` of tensorflow/models research/deeplab/model.py.
    """
    if is_training(model):
        raise ConfigError(
            "the model, or a part of it, is in training mode, where dropout and batch statistics change its output; "
            "call model.eval()"
        )
    pixels = torch.cat([canvas.pixels for canvas in canvases]) if len(canvases) > 1 else canvases[0].pixels
    pixels = pixels.to(model.device)
    passes: list[list[ModelPass]] = [[] for _ in canvases]
    for scale in scales:
        scaled = scale_pixels(pixels, scale)
        sides = (scaled.shape[-2], scaled.shape[-1])
        for mirrored in (False, True) if flip else (False,):
            logits = model.raw_logits(scaled.flip(-1) if mirrored else scaled)
            for canvas, own, of_canvas in zip(canvases, logits, passes, strict=True):
                of_canvas.append(_locate_logits(own, canvas, model.logits_stride, sides, mirrored=mirrored))
    return passes


def _locate_logits(
    logits: Float[Tensor, "k i j"], canvas: Canvas, stride: int, sides: tuple[int, int], *, mirrored: bool
) -> ModelPass:
    """Return the pass of a canvas with its logits; ``sides`` are those of the scaled canvas."""
    grid = logits.float().permute(1, 2, 0).contiguous()
    rows, columns = (
        _positions(canvas.image_size[axis], canvas.content[axis], canvas.pixels.shape[2 + axis], sides[axis])
        for axis in (0, 1)
    )
    if mirrored:
        columns = sides[1] - 1 - columns
    axes = (
        Axis.at(positions / stride, grid.shape[axis], grid.device) for axis, positions in enumerate((rows, columns))
    )
    return ModelPass(grid, *axes)


def _positions(image_side: int, content: int, canvas_side: int, scaled: int) -> Float64[Tensor, " n"]:
    """Return the positions of the image's pixels, in pixels of the scaled canvas.

    The image was scaled down by area averaging, so pixels are located by the centers of areas. Aligned corners would
    shift labels at the borders by half a pixel of the small image. Between canvas and scaled canvas, corners are
    aligned, as in TensorFlow.
    """
    pixels = torch.arange(image_side, dtype=torch.float64)
    if image_side != content:
        pixels = ((pixels + 0.5) * (content / image_side) - 0.5).clamp(0, content - 1)
    return pixels * ((scaled - 1) / (canvas_side - 1))
