"""Losses by name, which can be added to the cross-entropy. A new loss is a function and an entry in :data:`LOSSES`.

The losses of segmentation-models-pytorch select the labeled pixels, so that the CPU waits for a GPU once per class. On
a GPU, dense losses give ignored pixels a weight of zero instead. Both have the same values, which
tests/tasks/test_dense_losses.py checks, but the dense losses do not make the CPU wait.
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
    """A loss on the CPU, and an equal dense loss on a GPU, which is 0 if all pixels are ignored.

    Args:
        loss: module of (logits, mask), for the CPU.
        dense: function of (logits, mask, ignore index), for a GPU.
        ignore_index: mask value of ignored pixels.
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
    """Return the focal loss, the mean of binary losses of each class against all others."""
    from segmentation_models_pytorch.losses import FocalLoss

    loss = FocalLoss(MODE, gamma=gamma, ignore_index=ignore_index)
    return OnDevice(loss, partial(dense_focal, gamma=gamma), ignore_index)


def dice(ignore_index: int, gamma: float) -> nn.Module:
    """Return the Dice loss: one minus the overlap of each class."""
    from segmentation_models_pytorch.losses import DiceLoss

    loss: nn.Module = DiceLoss(MODE, ignore_index=ignore_index)
    return loss


def lovasz(ignore_index: int, gamma: float) -> nn.Module:
    """Return the Lovász-Softmax loss, a differentiable approximation of the IoU of each class."""
    from segmentation_models_pytorch.losses import LovaszLoss

    return OnDevice(LovaszLoss(MODE, ignore_index=ignore_index), dense_lovasz, ignore_index)


def dense_focal(
    logits: Float[Tensor, "b k h w"], mask: Int64[Tensor, "b h w"], ignore_index: int, gamma: float
) -> Float[Tensor, ""]:
    """Return the focal loss without a selection of pixels."""
    from segmentation_models_pytorch.losses import _functional

    classes = torch.arange(logits.shape[1], device=logits.device)[:, None, None]
    counted = (mask != ignore_index)[:, None]
    right = (mask[:, None] == classes).to(logits.dtype)
    pixel_losses = _functional.focal_loss_with_logits(logits, right, gamma=gamma, alpha=None, reduction="none")
    total: Tensor = torch.where(counted, pixel_losses, 0).sum()
    return total / (logits.shape[1] * counted.sum().clamp(min=1))


def dense_lovasz(
    logits: Float[Tensor, "b k h w"], mask: Int64[Tensor, "b h w"], ignore_index: int
) -> Float[Tensor, ""]:
    """Return the Lovász-Softmax loss without a selection of pixels: ignored pixels have an error of 0."""
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
"""Name of the factor in an experiment -> function of (ignore index, gamma), which returns the loss.

A loss is a module of (logits (b, k, h, w), mask (b, h, w)). On a GPU, it must be finite if all pixels are ignored.
"""
