"""The network's passes over one image: at several scales, unchanged and mirrored ("MF" in the paper's Table 7).

A pass keeps the logits at output stride and the geometry that leads from the image's pixels to them. They are a small
fraction of a label map at full size, so all passes of one image are held while bands of rows are read out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor, nn

from segmnv2.engines.backend import DenseModel
from segmnv2.errors import ConfigError
from segmnv2.inference.canvas import Canvas
from segmnv2.inference.cells import Axis, Cells, sample_bilinear
from segmnv2.nn.stride import resize_bilinear, scaled_side

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""Scales of multi-scale inference. Source: tensorflow/models research/deeplab, the paper's evaluation."""


LARGEST_SCALE = 8.0
"""Larger ones are meant in percent, and an image of 75 times the sides fits in no memory."""


@dataclass(frozen=True)
class ModelPass:
    """Logits of one pass, and where the image's rows and columns lie on them.

    Attributes:
        grid: (h, w, num_classes) logits at output stride.
        rows: positions of the image's rows on the grid.
        columns: positions of the image's columns; they run backwards for a mirrored pass.
    """

    grid: Float[Tensor, "h w k"]
    rows: Axis
    columns: Axis

    def logits(self, rows: slice) -> Float[Tensor, "i j k"]:
        """Return the logits of a band of the image's rows, at full size."""
        return sample_bilinear(self.grid, self.rows[rows], self.columns)

    def labels(self) -> UInt8[Tensor, "i j"]:
        """Return the best class at each pixel of the image."""
        return Cells(self.grid).labels(self.rows, self.columns)


def choose_scales(multi_scale: bool | Sequence[float]) -> tuple[float, ...]:
    """Return the scales that an argument ``multi_scale`` stands for: the paper's six, one, or those given.

    Raises:
        ConfigError: none are given, or one is not above 0 and at most :data:`LARGEST_SCALE`.
    """
    if isinstance(multi_scale, bool):
        return SCALES if multi_scale else (1.0,)
    return check_scales(multi_scale)


def check_flip(flip: object) -> bool:
    """Return ``flip`` if it is true or false.

    Raises:
        ConfigError: it is anything else, as a word.
    """
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
        try:
            numbers = tuple(float(scale) for scale in scales)
        except (TypeError, ValueError):
            numbers = ()
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


def run_passes(model: DenseModel, canvas: Canvas, scales: Sequence[float], flip: bool) -> list[ModelPass]:
    """Run the model on the canvas at each scale, and mirrored too with ``flip``.

    As in TensorFlow it is the padded canvas that is scaled, to sides of ``int((side - 1) * scale + 1)``, and mirrored.

    Raises:
        ConfigError: the model or a part of it is in training mode.

    Source: ``predict_labels_multi_scale`` of tensorflow/models research/deeplab/model.py.
    """
    if is_training(model):
        raise ConfigError(
            "the model, or a part of it, is in training mode, where dropout and batch statistics change its answer; "
            "call model.eval()"
        )
    pixels = canvas.pixels.to(model.device)
    passes = []
    for scale in scales:
        height, width = pixels.shape[-2:]
        scaled = resize_bilinear(pixels, (scaled_side(height, scale), scaled_side(width, scale)))
        sides = (scaled.shape[-2], scaled.shape[-1])
        for mirrored in (False, True) if flip else (False,):
            logits = model.raw_logits(scaled.flip(-1) if mirrored else scaled)
            passes.append(locate_logits(logits, canvas, model.logits_stride, sides, mirrored=mirrored))
    return passes


def locate_logits(
    logits: Float[Tensor, "1 k i j"], canvas: Canvas, stride: int, sides: tuple[int, int], *, mirrored: bool = False
) -> ModelPass:
    """Return the pass that gave some logits.

    Args:
        logits: of the canvas, scaled and mirrored as below.
        canvas: whose image's pixels are looked for among them.
        stride: pixels between two logits.
        sides: (height, width) of the scaled canvas.
        mirrored: whether it was mirrored.
    """
    grid = logits[0].float().permute(1, 2, 0).contiguous()
    rows, columns = (
        _positions(canvas.image_size[axis], canvas.content[axis], canvas.pixels.shape[2 + axis], sides[axis])
        for axis in (0, 1)
    )
    if mirrored:
        columns = sides[1] - 1 - columns
    return ModelPass(
        grid,
        Axis.at(rows / stride, grid.shape[0], grid.device),
        Axis.at(columns / stride, grid.shape[1], grid.device),
    )


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
