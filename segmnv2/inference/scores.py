"""Logits of an image at output stride, and the labels, confidence and probabilities computed from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from segmnv2.engines.backend import DenseModel
from segmnv2.engines.pytorch import torch_threads
from segmnv2.errors import SegmnError
from segmnv2.inference.canvas import (
    DEFAULT_SIZE,
    Canvas,
    ModelPass,
    Size,
    check_image,
    check_scales,
    check_size,
    make_canvas,
    run_passes,
)

BAND_ELEMENTS = {"cpu": 2**20, "cuda": 2**26}
"""Numbers per band of rows: a band fits in a CPU's cache (4 MB), or keeps a GPU busy (256 MB)."""


@dataclass(frozen=True)
class Scores:
    """Scores of one image, computed at the image's size on request.

    Only :meth:`probabilities` holds an array of classes x height x width.
    """

    passes: Sequence[ModelPass]
    image_size: tuple[int, int]

    def check_finite(self, source: str) -> None:
        """Raise an error for logits that are not finite, because of broken weights or a precision of small range."""
        if not all(bool(model_pass.grid.isfinite().all()) for model_pass in self.passes):
            raise SegmnError(
                f"{source}: the model's logits are not finite numbers, so it has no labels; load other weights, or use "
                "the precision float32"
            )

    def labels(self) -> UInt8[np.ndarray, "h w"]:
        """Return the class ids; of equally good classes the one with the lowest id."""
        if len(self.passes) == 1:
            if self.passes[0].grid.is_cuda:  # interpolating all pixels is faster than selecting cells
                return self._read(lambda band: self.passes[0].logits(band).argmax(-1), torch.uint8).numpy()
            # More threads gain nothing here, and would slow down the threads of an engine while they wait.
            with torch.inference_mode(), torch_threads(1):
                return self.passes[0].labels().cpu().numpy()
        return self._read(lambda band: self._mean_probabilities(band).argmax(-1), torch.uint8).numpy()

    def confidence(self) -> Float32[np.ndarray, "h w"]:
        """Return the probability, 0..1, of each pixel's best class."""
        return self._read(lambda band: self._mean_probabilities(band).amax(-1), torch.float32).numpy()

    def probabilities(self) -> Float32[np.ndarray, "k h w"]:
        """Return the probability, 0..1, of every class; they sum to 1."""
        classes = self.passes[0].grid.shape[-1]
        result = np.empty((classes, *self.image_size), dtype=np.float32)
        with torch.inference_mode():
            for band in self._bands():
                result[:, band] = self._mean_probabilities(band).permute(2, 0, 1).cpu().numpy()
        return result

    def _mean_probabilities(self, band: slice) -> Float[Tensor, "i j k"]:
        total = self.passes[0].logits(band).softmax(-1)
        for other in self.passes[1:]:
            total += other.logits(band).softmax(-1)
        return total.div_(len(self.passes))

    def _bands(self) -> list[slice]:
        height, width = self.image_size
        grid = self.passes[0].grid
        elements = BAND_ELEMENTS.get(grid.device.type, BAND_ELEMENTS["cuda"])
        rows = max(1, elements // (width * grid.shape[-1]))
        return [slice(start, min(start + rows, height)) for start in range(0, height, rows)]

    def _read(self, read_band: Callable[[slice], Tensor], dtype: torch.dtype) -> Tensor:
        result = torch.empty(self.image_size, dtype=dtype)
        with torch.inference_mode():
            for band in self._bands():
                result[band] = read_band(band).to("cpu", dtype)
        return result


def predict_scores(
    model: DenseModel,
    image: UInt8[np.ndarray, "h w 3"],
    *,
    size: Size = DEFAULT_SIZE,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> Scores:
    """Run a model on one image.

    Args:
        model: the segmenter, in evaluation mode; its device is used.
        image: uint8 RGB, 0..255, any size.
        size: the canvas, see :mod:`segmnv2.inference.canvas`.
        scales: scales of the canvas to average over; :data:`segmnv2.inference.canvas.SCALES` for the paper's MF.
        flip: average over the mirrored canvas too.

    Raises:
        ConfigError: ``size`` or ``scales`` is out of range, or the model is in training mode.
        MediaError: ``image`` is not a uint8 RGB array.
    """
    checked = check_image(image)
    canvas = make_canvas(checked, check_size(size), model.output_stride, model.mean_pixel)
    with torch.inference_mode():
        return Scores(run_passes(model, [canvas], check_scales(scales), flip)[0], canvas.image_size)


def predict_labels(
    model: DenseModel,
    image: UInt8[np.ndarray, "h w 3"],
    *,
    size: Size = DEFAULT_SIZE,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> UInt8[np.ndarray, "h w"]:
    """Return the class id of each pixel; arguments and errors as :func:`predict_scores`."""
    return predict_scores(model, image, size=size, scales=scales, flip=flip).labels()


def predict_batch(
    model: DenseModel, canvases: Sequence[Canvas], *, scales: Sequence[float] = (1.0,), flip: bool = False
) -> list[Scores]:
    """Run a model on several canvases; those of equal size run together.

    Labels are those of each canvas alone, except where two classes are almost equal: for another batch size, engines
    may add in another order, which changes the last bits of logits. With several scales or ``flip``, canvases run one
    by one.
    """
    together = tuple(scales) == (1.0,) and not flip
    groups: dict[object, list[int]] = {}
    for number, canvas in enumerate(canvases):
        groups.setdefault(tuple(canvas.pixels.shape) if together else number, []).append(number)
    by_number: dict[int, Scores] = {}
    with torch.inference_mode():
        for group in groups.values():
            passes = run_passes(model, [canvases[number] for number in group], scales, flip)
            by_number |= {
                number: Scores(own, canvases[number].image_size) for number, own in zip(group, passes, strict=True)
            }
    return [by_number[number] for number in range(len(canvases))]


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image, and the model's input made from it."""

    image: UInt8[np.ndarray, "h w 3"]  # (H, W, 3) uint8 RGB, 0..255, upright
    canvas: Canvas  # the model's input
    source: str  # name of the image in error messages
