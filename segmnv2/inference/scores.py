"""Labels, confidence and probabilities from the passes over an image, in bands of rows.

A single pass decides by its logits: softmax would not change the order. Several passes are averaged after softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from segmnv2.backends.threads import torch_threads
from segmnv2.inference.canvas import DEFAULT_SIZE, Size, check_image, check_size, make_canvas
from segmnv2.inference.multi_scale import DenseModel, ModelPass, check_scales, run_passes

BAND_ELEMENTS = {"cpu": 2**20, "cuda": 2**26}
"""Numbers held for one band of rows: what stays in a CPU's cache (4 MB), what keeps a GPU busy (256 MB)."""


@dataclass(frozen=True)
class Scores:
    """Scores of one image, computed at the image's size on request.

    Nothing of the size classes x height x width is held, except by :meth:`probabilities`.

    Attributes:
        passes: one or more passes of the model.
        image_size: (height, width) of the image.
    """

    passes: Sequence[ModelPass]
    image_size: tuple[int, int]

    def labels(self) -> UInt8[np.ndarray, "h w"]:
        """Return the class ids; of equally good classes the one with the lowest id."""
        if len(self.passes) == 1:
            # More threads gain nothing here, and afterwards wait for work in the way of those of an engine.
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
        model: the network, in evaluation mode; the work is done on its device.
        image: uint8 RGB, 0..255, any size.
        size: the canvas, see :mod:`segmnv2.inference.canvas`.
        scales: scales of the canvas to average over; :data:`segmnv2.inference.multi_scale.SCALES` for the paper's MF.
        flip: average over the mirrored canvas too.

    Raises:
        ConfigError: ``size`` or ``scales`` is out of range, or the model is in training mode.
        MediaError: ``image`` is not as above.
    """
    checked = check_image(image)
    canvas = make_canvas(checked, check_size(size), model.output_stride, model.mean_pixel)
    with torch.inference_mode():
        return Scores(run_passes(model, canvas, check_scales(scales), flip), canvas.image_size)


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


def predict_probabilities(
    model: DenseModel,
    image: UInt8[np.ndarray, "h w 3"],
    *,
    size: Size = DEFAULT_SIZE,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> Float32[np.ndarray, "k h w"]:
    """Return the probability, 0..1, of each class at each pixel; arguments and errors as :func:`predict_scores`."""
    return predict_scores(model, image, size=size, scales=scales, flip=flip).probabilities()
