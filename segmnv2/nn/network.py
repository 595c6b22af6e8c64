"""Functions on whole models: settings of batch norms, and freezing of parameters that no output depends on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from segmnv2.errors import ConfigError

Self = TypeVar("Self", bound="Network")


class Network(nn.Module):
    """Base class of models with a ``backbone``, whose batch norms can be set together."""

    frozen: str | None = None  # the part with frozen batch norms, "backbone" or "all"

    def set_norm_momentum(self, momentum: float) -> None:
        """Set the share of a new batch in every batch norm's running statistics.

        The paper's 0.003 (backbone) and 0.0003 (head) need thousands of steps to replace the initial statistics; a
        short training run needs about 0.05.

        Raises:
            ConfigError: the momentum is not above 0 and at most 1.
        """
        if not 0 < momentum <= 1:
            raise ConfigError(f"norm momentum {momentum!r} is not in (0, 1]; the paper's is 0.003")
        for norm in statistical_norms(self):
            norm.momentum = momentum  # type: ignore[assignment]

    def train(self: Self, mode: bool = True) -> Self:
        """Switch to training or evaluation mode; frozen batch norms stay in evaluation mode."""
        super().train(mode)
        if self.frozen:
            part = self.backbone if self.frozen == "backbone" else self
            assert isinstance(part, nn.Module)
            for norm in statistical_norms(part):
                norm.eval()
        return self


def freeze_batch_norm(network: Network, *, backbone_only: bool = False) -> None:
    """Freeze the running statistics of batch norms, and normalize by them in training too.

    Scale and shift are still trained. Use it for batches of fewer than about 12 images, whose statistics are too noisy.

    Args:
        network: the model; its mode stays unchanged.
        backbone_only: freeze only the norms of the backbone, for example if only the backbone is pretrained.

    Source: tensorflow/models research/deeplab/train.py, ``fine_tune_batch_norm=False``.
    """
    network.frozen = "backbone" if backbone_only else "all"
    network.train(network.training)


def statistical_norms(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers with running statistics: batch norms of every kind and library."""
    return (module for module in network.modules() if getattr(module, "running_var", None) is not None)


PROBE = (128, 96)
"""Sides in pixels of the image with which a model is tested: multiples of all strides."""


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode and restore each layer's own mode afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def freeze_unused(network: nn.Module, outputs: Callable[[Tensor], Iterable[Tensor]]) -> None:
    """Freeze the parameters that no output depends on, such as the last layers of a classifier used as a backbone.

    They never get a gradient, and distributed training waits for the gradients of all parameters that are not frozen.

    Args:
        network: the model; its values and modes stay unchanged. In inference mode, which has no gradients, nothing is
            frozen.
        outputs: function that maps a normalized image (1, 3, h, w) to the outputs that are used.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not parameters or torch.is_inference_mode_enabled():
        return
    with torch.enable_grad(), evaluating(network):
        total = torch.stack([output.sum() for output in outputs(parameters[0].new_zeros(1, 3, *PROBE))]).sum()
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
