"""Several images through a network at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from segmnv2.inference.canvas import Canvas
from segmnv2.inference.multi_scale import DenseModel, ModelPass, is_training, locate_logits, run_passes
from segmnv2.inference.scores import Scores


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
            several = [canvases[number] for number in group]
            if len(group) == 1 or tuple(scales) != (1.0,) or flip or is_training(model):
                passes = [run_passes(model, canvas, scales, flip) for canvas in several]
            else:
                passes = [[each] for each in _run_together(model, several)]
            for number, canvas, own in zip(group, several, passes, strict=True):
                found[number] = Scores(own, canvas.image_size)
    return [found[number] for number in range(len(canvases))]


def _same_sizes(canvases: Sequence[Canvas]) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, canvas in enumerate(canvases):
        groups.setdefault(tuple(canvas.pixels.shape), []).append(number)
    return list(groups.values())


def _run_together(model: DenseModel, canvases: Sequence[Canvas]) -> list[ModelPass]:
    """Return a pass of each of several canvases of one size, run as one batch."""
    pixels = torch.cat([canvas.pixels for canvas in canvases])
    sides = (pixels.shape[-2], pixels.shape[-1])
    logits = torch.split(model.raw_logits(pixels.to(model.device)), 1)
    return [
        locate_logits(own, canvas, model.logits_stride, sides) for own, canvas in zip(logits, canvases, strict=True)
    ]
