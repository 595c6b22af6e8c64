"""Losses that can be added to the cross-entropy, by name: a new one is a function and a line here.

Those of segmentation-models-pytorch pick the pixels that count, which makes the CPU wait for a GPU, once for each
class. On a GPU other pixels have a weight of zero instead: the same losses without a wait
(tests/tasks/test_dense_losses.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

MODE = "multiclass"

DenseLoss = Callable[[Tensor, Tensor, int], Tensor]


class OnDevice(nn.Module):
    """A loss on the CPU, and an equal one on a GPU that does not make the CPU wait; 0 there where no pixel counts.

    Args:
        loss: module of (logits, mask).
        dense: function of (logits, mask, ignore index).
        ignore_index: mask value that does not count.
    """

    def __init__(self, loss: nn.Module, dense: DenseLoss, ignore_index: int) -> None:
        super().__init__()
        self.loss, self.dense, self.ignore_index = loss, dense, ignore_index

    def forward(self, logits: Float[Tensor, "b k h w"], mask: Int64[Tensor, "b h w"]) -> Float[Tensor, ""]:
        """Return the loss."""
        if logits.is_cuda:
            return self.dense(logits, mask, self.ignore_index)
        loss: Tensor = self.loss(logits, mask)
        return loss


def focal(ignore_index: int, gamma: float) -> nn.Module:
    """Return the focal loss, which takes each class against the rest."""
    from segmentation_models_pytorch.losses import FocalLoss

    loss = FocalLoss(MODE, gamma=gamma, ignore_index=ignore_index)
    return OnDevice(loss, partial(dense_focal, gamma=gamma), ignore_index)


def dice(ignore_index: int, gamma: float) -> nn.Module:
    """Return the Dice loss: one minus the overlap of each class."""
    from segmentation_models_pytorch.losses import DiceLoss

    loss: nn.Module = DiceLoss(MODE, ignore_index=ignore_index)
    return loss


def lovasz(ignore_index: int, gamma: float) -> nn.Module:
    """Return the Lovász-Softmax loss, a stand-in for the IoU of each class."""
    from segmentation_models_pytorch.losses import LovaszLoss

    return OnDevice(LovaszLoss(MODE, ignore_index=ignore_index), dense_lovasz, ignore_index)


def dense_focal(
    logits: Float[Tensor, "b k h w"], mask: Int64[Tensor, "b h w"], ignore_index: int, gamma: float
) -> Float[Tensor, ""]:
    """Return the focal loss without picking pixels."""
    from segmentation_models_pytorch.losses import _functional

    classes = torch.arange(logits.shape[1], device=logits.device)[:, None, None]
    counted = (mask != ignore_index)[:, None]
    right = (mask[:, None] == classes).to(logits.dtype)
    each = _functional.focal_loss_with_logits(logits, right, gamma=gamma, alpha=None, reduction="none")
    total: Tensor = torch.where(counted, each, 0).sum()
    return total / (logits.shape[1] * counted.sum().clamp(min=1))


def dense_lovasz(
    logits: Float[Tensor, "b k h w"], mask: Int64[Tensor, "b h w"], ignore_index: int
) -> Float[Tensor, ""]:
    """Return the Lovász-Softmax loss without picking pixels: others have no error, and errors of 0 come last."""
    from segmentation_models_pytorch.losses.lovasz import _lovasz_grad

    targets = mask.flatten()
    counted = targets != ignore_index
    losses, present = [], []
    for class_id, chances in enumerate(logits.softmax(1).unbind(1)):
        right = (targets == class_id).to(chances.dtype)
        errors = torch.where(counted, (right - chances.flatten()).abs(), 0)
        sorted_errors, order = errors.sort(descending=True)
        losses.append((sorted_errors * _lovasz_grad(right[order])).sum())
        present.append(right.amax())
    occurring = torch.stack(present)
    return (torch.stack(losses) * occurring).sum() / occurring.sum().clamp(min=1)


LOSSES: dict[str, Callable[[int, float], nn.Module]] = {"focal": focal, "dice": dice, "lovasz": lovasz}
"""Name of the factor in an experiment -> (ignore index, gamma) -> a module of (logits (b, k, h, w), mask (b, h, w)).

On a GPU it is called with masks in which no pixel counts, too, and must be finite there.
"""
