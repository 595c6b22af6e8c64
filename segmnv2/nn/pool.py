"""3x3 pooling, strided as TensorFlow's ``SAME`` or symmetrically, whose stride and dilation can be changed."""

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

    With a dilation the samples lie that far apart: a pool that strides no longer then finds the same values as before,
    and more of them between.
    """

    def __init__(self, *, padding: Padding = "tensorflow") -> None:
        """Build the layer at stride 1.

        Args:
            padding: ``"tensorflow"`` or ``"symmetric"``; they differ on even sides at stride 2.
        """
        super().__init__()
        self.same_padding: Padding = padding
        self.set_stride_and_dilation(1, 1)

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change the step of the sampling grid and the distance of the nine samples."""
        self.stride, self.dilation = stride, dilation

    def extra_repr(self) -> str:
        """Return the rate, for ``repr``."""
        return f"stride={self.stride}, dilation={self.dilation}, padding={self.same_padding}"

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
        """Pool ``(b, c, h, w)`` to ``(b, c, ceil(h / stride), ceil(w / stride))``."""
        if self.dilation == 1 and (self.stride == 1 or self.same_padding == "symmetric"):
            return self._pool_plain(x)
        return self._pool(x, (*self._pads(x.shape[-1]), *self._pads(x.shape[-2])))

    def _pads(self, size: Side) -> tuple[Side, Side]:
        """Return how many samples are missing before and after one side of ``size``."""
        reach = self.dilation * (KERNEL - 1)
        if self.same_padding == "symmetric" or self.stride == 1:
            return reach // 2, reach // 2
        # (ceil(size / stride) - 1) * stride + reach + 1 - size, which is not negative as reach is at least stride.
        total = reach - (size - 1) % self.stride
        return total // 2, total - total // 2

    @abstractmethod
    def _pool_plain(self, x: Tensor) -> Tensor:
        """Pool without dilation, with one missing sample on every side."""

    @abstractmethod
    def _pool(self, x: Tensor, pads: Pads) -> Tensor:
        """Pool with any dilation and padding."""


class SameMaxPool(SamePool):
    """The largest of 3x3 samples, of those that lie on the map."""

    def _pool_plain(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, KERNEL, self.stride, 1)

    def _pool(self, x: Tensor, pads: Pads) -> Tensor:
        return F.max_pool2d(F.pad(x, pads, value=-float("inf")), KERNEL, self.stride, 0, self.dilation)


class SameAveragePool(SamePool):
    """The mean of 3x3 samples, of those that lie on the map, or with zeros for those that do not."""

    def __init__(self, *, padding: Padding = "tensorflow", count_zeros: bool = False) -> None:
        """Build the layer at stride 1.

        Args:
            padding: ``"tensorflow"`` or ``"symmetric"``; they differ on even sides at stride 2.
            count_zeros: take samples outside the map as zeros, as ``nn.AvgPool2d`` does; TensorFlow leaves them out.
        """
        super().__init__(padding=padding)
        self.count_zeros = count_zeros

    def _pool_plain(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, KERNEL, self.stride, 1, count_include_pad=self.count_zeros)

    def _pool(self, x: Tensor, pads: Pads) -> Tensor:
        if self.count_zeros:
            return self._sums(x, pads) / KERNEL**2
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
