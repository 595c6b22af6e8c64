"""Losses of segmentation."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from segmnv2.config.training import LossSection
from segmnv2.engine.cross_entropy import cross_entropy, summed_cross_entropy
from segmnv2.errors import ConfigError
from segmnv2.labels import LabelSet
from segmnv2.losses import LOSSES
from segmnv2.nn.resize import upsample_logits


class SegmentationLoss(nn.Module):
    """A sum of losses over the pixels that count; 0, with a gradient of 0, where none does.

    The cross-entropy is the paper's: its mean over the pixels. With weights it is the mean weighted by the weight of
    each pixel's class, as in :class:`torch.nn.CrossEntropyLoss`; with ``hard_pixels`` below 1, the mean over that share
    of the pixels whose (weighted) cross-entropy is largest. Focal, Dice and Lovász-Softmax losses are those of
    segmentation-models-pytorch; its focal loss takes each class against the rest.

    Args:
        section: factors and their settings.
        labels: classes and ignore index.

    Raises:
        ConfigError: a weight is given for a class that does not exist.

    Source: tensorflow/models research/deeplab/utils/train_utils.py, with ``upsample_logits=True``; hard pixels as its
    ``top_k_percent_pixels``.
    """

    class_weights: Tensor | None

    def __init__(self, section: LossSection, labels: LabelSet) -> None:
        super().__init__()
        self.section = section
        self.ignore_index = labels.ignore_index
        self.register_buffer("class_weights", _weights(section.class_weights, labels), persistent=False)
        self.terms = nn.ModuleDict({name: LOSSES[name](labels.ignore_index, section.gamma) for name in section.terms})

    def forward(
        self, raw: Float[Tensor, "b k i j"], mask: UInt8[Tensor, "b h w"], output_stride: int = 1
    ) -> Float[Tensor, ""]:
        """Return the loss.

        Args:
            raw: logits of the K classes, sample (m, n) lying on pixel (m, n) * output_stride.
            mask: class ids, or the ignore index where a pixel does not count.
            output_stride: pixels between two samples; with 1, ``raw`` has the size of the mask.
        """
        raw, targets = raw.float(), mask.long()
        loss, section = raw.new_zeros(()), self.section
        if section.cross_entropy and section.hard_pixels == 1:
            loss = loss + section.cross_entropy * self._cross_entropy(raw, targets, output_stride)
            if not self.terms:
                return loss
        height, width = mask.shape[1:]
        logits = upsample_logits(raw, output_stride, (height, width))
        if section.cross_entropy and section.hard_pixels < 1:
            loss = loss + section.cross_entropy * self._hard_cross_entropy(logits, targets)
        if not bool((targets != self.ignore_index).any()):
            return loss + (0 * raw).sum()  # the other losses are NaN over nothing; DDP needs each gradient all the same
        for name, term in self.terms.items():
            loss = loss + section.terms[name] * term(logits, targets)
        return loss

    def _cross_entropy(
        self, raw: Float[Tensor, "b k i j"], targets: Int64[Tensor, "b h w"], output_stride: int
    ) -> Float[Tensor, ""]:
        total = summed_cross_entropy(raw, targets, output_stride, self.ignore_index, self.class_weights)
        counted = targets != self.ignore_index
        if self.class_weights is None:
            return total / counted.sum().clamp(min=1)
        weight = torch.where(counted, self.class_weights[targets * counted], 0).sum()
        return total / weight.clamp(min=torch.finfo(weight.dtype).tiny)

    def _hard_cross_entropy(
        self, logits: Float[Tensor, "b k h w"], targets: Int64[Tensor, "b h w"]
    ) -> Float[Tensor, ""]:
        each = cross_entropy(logits, targets, self.ignore_index, self.class_weights, "none")
        # Pixels that do not count have 0, so they are never among the hardest unless nothing else is left.
        counted = int((targets != self.ignore_index).sum())
        return each.topk(max(1, math.ceil(self.section.hard_pixels * counted))).values.mean()


def _weights(given: Mapping[str, float], labels: LabelSet) -> Float[Tensor, " k"] | None:
    """Return the weight of each class, or ``None`` for the same everywhere."""
    unknown = sorted(given.keys() - set(labels.names))
    if unknown:
        raise ConfigError(
            f"loss.class_weights: {', '.join(unknown)} is no class of the data; they are {', '.join(labels.names)}"
        )
    return torch.tensor([given.get(name, 1.0) for name in labels.names]) if given else None
