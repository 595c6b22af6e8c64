"""Whole networks: their batch norms, and parameters that no output depends on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from segmnv2.errors import ConfigError

Self = TypeVar("Self", bound="Network")


class Network(nn.Module):
    """A network with a ``backbone``, whose batch norms can be set together."""

    frozen: str | None = None  # of which part the batch norms are

    def set_norm_momentum(self, momentum: float) -> None:
        """Set the share of a new batch in every batch norm's running statistics.

        The paper's 0.003 (backbone) and 0.0003 (head) need thousands of steps to forget where they started; a
        short training run needs about 0.05.

        Raises:
            ConfigError: not above 0 and at most 1.
        """
        if not 0 < momentum <= 1:
            raise ConfigError(f"norm momentum {momentum!r} is not in (0, 1]; the paper's is 0.003")
        for norm in statistical_norms(self):
            norm.momentum = momentum  # type: ignore[assignment]

    def train(self: Self, mode: bool = True) -> Self:
        """Switch to training or evaluation; frozen batch norms stay in evaluation."""
        super().train(mode)
        if self.frozen:
            part = self.backbone if self.frozen == "backbone" else self
            assert isinstance(part, nn.Module)
            for norm in statistical_norms(part):
                norm.eval()
        return self


def freeze_batch_norm(network: Network, *, backbone_only: bool = False) -> None:
    """Normalize by the running statistics in training too, and leave them unchanged; scale and shift still learn.

    For batches of fewer than about 12 images, whose own statistics say too little.

    Args:
        network: in any mode, which it keeps.
        backbone_only: leave the other norms out, as when only the backbone's statistics are worth keeping.

    Source: tensorflow/models research/deeplab/train.py, ``fine_tune_batch_norm=False``.
    """
    network.frozen = "backbone" if backbone_only else "all"
    network.train(network.training)


def statistical_norms(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers with running statistics: batch norms of every kind and library."""
    return (module for module in network.modules() if getattr(module, "running_var", None) is not None)


PROBE = (128, 96)
"""Sides of the image that a network is tried with, in pixels: multiples of all strides."""


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode and restore each layer's own mode afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def freeze_unused(network: nn.Module, outputs: Callable[[Tensor], Iterable[Tensor]]) -> None:
    """Freeze the parameters that no output depends on, as the last layers of a classifier whose maps alone are used.

    They never get a gradient, and distributed training waits for one of each parameter that is not frozen.

    Args:
        network: in any mode; it keeps its values and modes. Nothing happens in inference mode, which has no gradients.
        outputs: maps a normalized image (1, 3, h, w) to what the network is used for.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not parameters or torch.is_inference_mode_enabled():
        return
    with torch.enable_grad(), evaluating(network):
        total = torch.stack([each.sum() for each in outputs(parameters[0].new_zeros(1, 3, *PROBE))]).sum()
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
