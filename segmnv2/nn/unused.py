"""Parameters that an output does not depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

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
