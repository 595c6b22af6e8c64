"""The canvas, which lays an image of any size out for the network, and the network's passes over it.

The rule of the canvas, with ``size`` an integer (513 by default):

- An image whose sides are both at most ``size`` keeps its pixels and is padded to the right and below, with the mean
  pixel, to ``size`` by ``size``. At 513 this is TensorFlow's protocol.
- A larger one is first scaled down, antialiased, so that its longest side is ``size``.

With ``size="native"`` nothing is scaled and only as much is padded as the network's grid needs. In both cases the
canvas' sides are rounded up to k * output_stride + 1 with k >= 1, for which the cells of the logits lie exactly on
every ``output_stride``-th pixel. (513 has that form at every output stride.)

A pass, at one scale, unchanged or mirrored ("MF" in the paper's Table 7), keeps the logits at output stride and the
geometry that leads from the image's pixels to them. They are a small fraction of a label map at full size, so all
passes of one image are held while bands of rows are read out.
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

MEAN_PIXEL = (127.5, 127.5, 127.5)  # RGB of the padding for networks that normalize to -1..1: the pixel that becomes 0
Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Canvas:
    """An image laid out for the network, and where it lies on it."""

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
        f"of the network's input ({DEFAULT_SIZE} is the paper's), or 'native' for no scaling"
    )


def check_image(image: object, source: str = "image") -> UInt8[np.ndarray, "h w 3"]:
    """Return uint8 RGB as a (H, W, 3) array; a (H, W) gray one has its channel repeated.

    Raises:
        MediaError: not an array, another data type, another shape, or no pixels; ``source`` names it.
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
    """Refuse one path, one PIL image, or one array, whose rows would pass for gray images; return several images."""
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
    """Lay a uint8 RGB image out for the network by the rule at the top of this file, padded with ``mean_pixel``."""
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


SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""Scales of multi-scale inference. Source: tensorflow/models research/deeplab, the paper's evaluation."""


LARGEST_SCALE = 8.0  # larger ones are meant in percent, and an image of 75 times the sides fits in no memory


@dataclass(frozen=True)
class ModelPass:
    """Logits of one pass, and where the image's rows and columns lie on them."""

    grid: Float[Tensor, "h w k"]  # (h, w, num_classes) logits at output stride
    rows: Axis  # positions of the image's rows on the grid
    columns: Axis  # positions of the image's columns; they run backwards for a mirrored pass

    def logits(self, rows: slice) -> Float[Tensor, "i j k"]:
        """Return the logits of a band of the image's rows, at full size."""
        return sample_bilinear(self.grid, self.rows[rows], self.columns)

    def labels(self) -> UInt8[Tensor, "i j"]:
        """Return the best class at each pixel of the image."""
        return Cells(self.grid).labels(self.rows, self.columns)


def choose_scales(multi_scale: bool | Sequence[float]) -> tuple[float, ...]:
    """Return the scales that an argument ``multi_scale`` stands for: the paper's six, one, or those given."""
    if isinstance(multi_scale, bool):
        return SCALES if multi_scale else (1.0,)
    return check_scales(multi_scale)


def check_flip(flip: object) -> bool:
    """Return ``flip`` if it is true or false, and no word as "false", else raise a ConfigError."""
    if isinstance(flip, bool | np.bool_):
        return bool(flip)
    raise ConfigError(f"flip: {flip!r} is not possible; give True or False")


def check_scales(scales: object) -> tuple[float, ...]:
    """Return ``scales`` as a tuple.

    Raises:
        ConfigError: it is no list, tuple or array of numbers above 0 and at most :data:`LARGEST_SCALE`.
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
    """Run the model on canvases of one size, at each scale, and mirrored too with ``flip``; return the passes of each.

    As in TensorFlow it is the padded canvas that is scaled and mirrored.

    Raises:
        ConfigError: the model or a part of it is in training mode.

    Source: ``predict_labels_multi_scale`` of tensorflow/models research/deeplab/model.py.
    """
    if is_training(model):
        raise ConfigError(
            "the model, or a part of it, is in training mode, where dropout and batch statistics change its answer; "
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
            for canvas, own, found in zip(canvases, logits, passes, strict=True):
                found.append(_locate_logits(own, canvas, model.logits_stride, sides, mirrored=mirrored))
    return passes


def _locate_logits(
    logits: Float[Tensor, "k i j"], canvas: Canvas, stride: int, sides: tuple[int, int], *, mirrored: bool
) -> ModelPass:
    """Return the pass that gave some logits of a canvas, whose sides were ``sides`` when it was scaled."""
    grid = logits.float().permute(1, 2, 0).contiguous()
    rows, columns = (
        _positions(canvas.image_size[axis], canvas.content[axis], canvas.pixels.shape[2 + axis], sides[axis])
        for axis in (0, 1)
    )
    if mirrored:
        columns = sides[1] - 1 - columns
    axes = (Axis.at(each / stride, grid.shape[axis], grid.device) for axis, each in enumerate((rows, columns)))
    return ModelPass(grid, *axes)


def _positions(image_side: int, content: int, canvas_side: int, scaled: int) -> Float64[Tensor, " n"]:
    """Return where the image's pixels lie, in pixels of the scaled canvas.

    Scaling the image down took means of areas, so the way back keeps the areas' centers: aligned corners would shift
    labels at the borders by half a pixel of the small image. From canvas to scaled canvas corners are aligned, as in
    TensorFlow.
    """
    pixels = torch.arange(image_side, dtype=torch.float64)
    if image_side != content:
        pixels = ((pixels + 0.5) * (content / image_side) - 0.5).clamp(0, content - 1)
    return pixels * ((scaled - 1) / (canvas_side - 1))
