"""Several images through a network at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from segmnv2.inference.canvas import Canvas
from segmnv2.inference.multi_scale import DenseModel, run_passes
from segmnv2.inference.scores import Scores


@dataclass
class _Answered:
    """A model that has been asked already: its logits for one image of a batch.

    Attributes:
        logits: that it returns.
        output_stride: of the model.
        device: of the model.
        training: of the model.
    """

    logits: Float[Tensor, "1 k i j"]
    output_stride: int
    device: torch.device
    training: bool

    def raw_logits(self, pixels: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 k i j"]:
        return self.logits


def predict_batch(
    model: DenseModel, canvases: Sequence[Canvas], *, scales: Sequence[float] = (1.0,), flip: bool = False
) -> list[Scores]:
    """Run a model on several canvases, those of equal size at once.

    Labels are those of each canvas alone, but where two classes are as good as equal: engines add in another order for
    another size of batch, so logits may differ in their last bits. Several passes are made image by image, since
    each is a batch of its own already.

    Args:
        model: the network, in evaluation mode.
        canvases: any sizes.
        scales: as for :func:`segmnv2.inference.scores.predict_scores`.
        flip: as there.

    Raises:
        ConfigError: the model is in training mode.
    """
    found: dict[int, Scores] = {}
    with torch.inference_mode():
        for group in _same_sizes(canvases):
            single = len(group) == 1 or tuple(scales) != (1.0,) or flip or model.training
            models = [model] * len(group) if single else _ask(model, [canvases[number] for number in group])
            for number, answering in zip(group, models, strict=True):
                canvas = canvases[number]
                found[number] = Scores(run_passes(answering, canvas, scales, flip), canvas.image_size)
    return [found[number] for number in range(len(canvases))]


def _same_sizes(canvases: Sequence[Canvas]) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, canvas in enumerate(canvases):
        groups.setdefault(tuple(canvas.pixels.shape), []).append(number)
    return list(groups.values())


def _ask(model: DenseModel, canvases: Sequence[Canvas]) -> list[DenseModel]:
    pixels = torch.cat([canvas.pixels for canvas in canvases]).to(model.device)
    logits = model.raw_logits(pixels)
    return [_Answered(part, model.output_stride, model.device, model.training) for part in torch.split(logits, 1)]
