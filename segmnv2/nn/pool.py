"""Average pooling that can be dilated."""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class DilatedAvgPool2d(nn.Module):
    """Mean over 3x3 taps of the map padded with zeros, the zeros counting, as ``nn.AvgPool2d(3, stride, padding=1)``.

    With a dilation the taps lie that far apart, which ``nn.AvgPool2d`` does not offer: a pool that strides no longer
    then finds the same values as before, and more of them between.
    """

    def __init__(self, *, stride: int = 1, dilation: int = 1) -> None:
        """Build the layer at a rate."""
        super().__init__()
        self.set_rate(stride, dilation)

    def set_rate(self, stride: int, dilation: int) -> None:
        """Change stride and dilation."""
        self.stride = stride
        self.dilation = dilation

    def extra_repr(self) -> str:
        """Return the rate, for ``repr``."""
        return f"stride={self.stride}, dilation={self.dilation}"

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
        """Map ``(b, c, h, w)`` to ``(b, c, ceil(h / stride), ceil(w / stride))``."""
        if self.dilation == 1:
            return F.avg_pool2d(x, 3, self.stride, padding=1)
        height, width = x.shape[-2:]
        padded = F.pad(x, [self.dilation] * 4)
        total: Tensor | None = None
        for row, column in itertools.product((0, self.dilation, 2 * self.dilation), repeat=2):
            tap = padded[..., row : row + height : self.stride, column : column + width : self.stride]
            total = tap if total is None else total + tap
        assert total is not None
        return total / 9
