"""Losses that can be added to the cross-entropy, by name: a new one is a function and a line here."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

MODE = "multiclass"


def focal(ignore_index: int, gamma: float) -> nn.Module:
    """Return the focal loss, which takes each class against the rest."""
    from segmentation_models_pytorch.losses import FocalLoss

    loss: nn.Module = FocalLoss(MODE, gamma=gamma, ignore_index=ignore_index)
    return loss


def dice(ignore_index: int, gamma: float) -> nn.Module:
    """Return the Dice loss: one minus the overlap of each class."""
    from segmentation_models_pytorch.losses import DiceLoss

    loss: nn.Module = DiceLoss(MODE, ignore_index=ignore_index)
    return loss


def lovasz(ignore_index: int, gamma: float) -> nn.Module:
    """Return the Lovász-Softmax loss, a stand-in for the IoU of each class."""
    from segmentation_models_pytorch.losses import LovaszLoss

    loss: nn.Module = LovaszLoss(MODE, ignore_index=ignore_index)
    return loss


LOSSES: dict[str, Callable[[int, float], nn.Module]] = {"focal": focal, "dice": dice, "lovasz": lovasz}
"""Name of the factor in an experiment -> (ignore index, gamma) -> a module of (logits (b, k, h, w), mask (b, h, w))."""
