"""3x3 pooling whose stride and dilation can be changed, with padding that takes no part in the result."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.nn.conv import Padding, Side

KERNEL = 3
Pads = tuple[Side, Side, Side, Side]  # left, right, top, bottom


class SamePool(nn.Module, ABC):
    """Pooling over 3x3 samples whose output has ``ceil(size / stride)`` rows and columns.

    Samples outside the map are left out: the mean is that of the others, as TensorFlow's ``SAME`` takes it.
    """

    def __init__(self, *, padding: Padding = "tensorflow") -> None:
        """Build the layer at stride 1.

        Args:
            padding: ``"tensorflow"`` or ``"symmetric"``; they differ on even sides at stride 2.
        """
        super().__init__()
        self.same_padding: Padding = padding
        self.set_rate(1, 1)

    def set_rate(self, stride: int, dilation: int) -> None:
        """Change the step of the sampling grid and the distance of the nine samples."""
        self.stride, self.dilation = stride, dilation

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
        """Pool ``(b, c, h, w)`` to ``(b, c, ceil(h / stride), ceil(w / stride))``."""
        pads: Pads = (*self._pads(x.shape[-1]), *self._pads(x.shape[-2]))
        if self.dilation == 1 and pads == (1, 1, 1, 1):
            return self._pool_plain(x)
        return self._pool(x, pads)

    def _pads(self, size: Side) -> tuple[Side, Side]:
        """Return how many samples are missing before and after one side of ``size``."""
        reach = self.dilation * (KERNEL - 1)
        if self.same_padding == "symmetric" or self.stride == 1:
            return reach // 2, reach // 2
        total = max((-(-size // self.stride) - 1) * self.stride + reach + 1 - size, 0)
        return total // 2, total - total // 2

    @abstractmethod
    def _pool_plain(self, x: Tensor) -> Tensor:
        """Pool without dilation, with one missing sample on every side."""

    @abstractmethod
    def _pool(self, x: Tensor, pads: Pads) -> Tensor:
        """Pool with any dilation and padding."""


class SameMaxPool(SamePool):
    """The largest of 3x3 samples."""

    def _pool_plain(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, KERNEL, self.stride, 1)

    def _pool(self, x: Tensor, pads: Pads) -> Tensor:
        return F.max_pool2d(F.pad(x, pads, value=-float("inf")), KERNEL, self.stride, 0, self.dilation)


class SameAveragePool(SamePool):
    """The mean of 3x3 samples, of those that lie on the map."""

    def _pool_plain(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, KERNEL, self.stride, 1, count_include_pad=False)

    def _pool(self, x: Tensor, pads: Pads) -> Tensor:
        counts = x.new_ones(1, 1, x.shape[-2], x.shape[-1])
        return self._sums(x, pads) / self._sums(counts, pads)

    def _sums(self, x: Tensor, pads: Pads) -> Tensor:
        """Return the sums of 3x3 samples: along columns, then along rows, as torch has no dilated mean."""
        x = F.pad(x, pads)
        for dim in (-2, -1):
            span = x.shape[dim] - (KERNEL - 1) * self.dilation
            first, second, third = (x.narrow(dim, tap * self.dilation, span) for tap in range(KERNEL))
            x = first + second + third
        return x[..., :: self.stride, :: self.stride]
