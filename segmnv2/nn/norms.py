"""Batch norms of a whole network: how fast their statistics move, and whether they move at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from torch import nn

from segmnv2.errors import ConfigError

Network = TypeVar("Network", bound="NormedNetwork")


class NormedNetwork(nn.Module):
    """A network with a ``backbone``, whose batch norms can be set together."""

    def __init__(self) -> None:
        """Freeze nothing."""
        super().__init__()
        self._frozen: str | None = None  # of which part

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

    def freeze_norms(self, *, backbone_only: bool = False) -> None:
        """Normalize by the running statistics in training too, and leave them unchanged; scale and shift still learn.

        For batches of fewer than about 12 images, whose own statistics say too little.

        Args:
            backbone_only: leave the other norms out, as when only the backbone's statistics are worth keeping.

        Source: tensorflow/models research/deeplab/train.py, ``fine_tune_batch_norm=False``.
        """
        self._frozen = "backbone" if backbone_only else "all"
        self.train(self.training)

    def train(self: Network, mode: bool = True) -> Network:
        """Switch to training or evaluation; frozen batch norms stay in evaluation."""
        super().train(mode)
        if self._frozen:
            part = self.backbone if self._frozen == "backbone" else self
            assert isinstance(part, nn.Module)
            for norm in statistical_norms(part):
                norm.eval()
        return self


def statistical_norms(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers with running statistics: batch norms of every kind and library."""
    return (module for module in network.modules() if getattr(module, "running_var", None) is not None)
