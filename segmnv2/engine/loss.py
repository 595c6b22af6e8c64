"""What training minimises."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from segmentation_models_pytorch.losses import DiceLoss, FocalLoss, LovaszLoss
from torch import Tensor, nn

from segmnv2.config.training import LossSection
from segmnv2.errors import ConfigError
from segmnv2.labels import LabelSet

MODE = "multiclass"


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
        terms = {
            "focal": FocalLoss(MODE, gamma=section.gamma, ignore_index=labels.ignore_index),
            "dice": DiceLoss(MODE, ignore_index=labels.ignore_index),
            "lovasz": LovaszLoss(MODE, ignore_index=labels.ignore_index),
        }
        self.terms = nn.ModuleDict({name: term for name, term in terms.items() if getattr(section, name)})

    def forward(self, logits: Float[Tensor, "b k h w"], mask: UInt8[Tensor, "b h w"]) -> Float[Tensor, ""]:
        """Return the loss.

        Args:
            logits: of the K classes, at the mask's size.
            mask: class ids, or the ignore index where a pixel does not count.
        """
        logits, targets = logits.float(), mask.long()
        loss = logits.new_zeros(())
        if self.section.cross_entropy:
            loss = loss + self.section.cross_entropy * self._cross_entropy(logits, targets)
        # These make NaN of a mean over nothing.
        if self.terms and bool((targets != self.ignore_index).any()):
            for name, term in self.terms.items():
                loss = loss + getattr(self.section, name) * term(logits, targets)
        return loss

    def _cross_entropy(self, logits: Float[Tensor, "b k h w"], targets: Int64[Tensor, "b h w"]) -> Float[Tensor, ""]:
        targets = targets.reshape(-1)
        # With channels last in memory this is a view, and softmax over neighbours in memory takes half the time.
        rows = logits.permute(0, 2, 3, 1).reshape(targets.numel(), logits.shape[1])
        counted = targets != self.ignore_index
        if self.section.hard_pixels < 1:
            return self._hard_cross_entropy(rows, targets, counted)
        total = F.cross_entropy(
            rows, targets, weight=self.class_weights, ignore_index=self.ignore_index, reduction="sum"
        )
        if self.class_weights is None:
            return total / counted.sum().clamp(min=1)
        weight = torch.where(counted, self.class_weights[targets * counted], 0).sum()
        return total / weight.clamp(min=torch.finfo(weight.dtype).tiny)

    def _hard_cross_entropy(
        self, rows: Float[Tensor, "n k"], targets: Int64[Tensor, " n"], counted: Bool[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        each = F.cross_entropy(
            rows, targets, weight=self.class_weights, ignore_index=self.ignore_index, reduction="none"
        )
        # Pixels that do not count have 0, so they are never among the hardest unless nothing else is left.
        taken = max(1, math.ceil(self.section.hard_pixels * int(counted.sum())))
        return each.topk(taken).values.mean()


def _weights(given: Mapping[str, float], labels: LabelSet) -> Float[Tensor, " k"] | None:
    """Return the weight of each class, or ``None`` for the same everywhere."""
    unknown = sorted(given.keys() - set(labels.names))
    if unknown:
        raise ConfigError(
            f"loss.class_weights: {', '.join(unknown)} is no class of the data; they are {', '.join(labels.names)}"
        )
    return torch.tensor([given.get(name, 1.0) for name in labels.names]) if given else None
