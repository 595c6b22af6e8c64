"""Convolution with TensorFlow's padding, batch norm and activation, and the channel rounding rule."""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.errors import ConfigError

Padding = Literal["tensorflow", "symmetric"]
Side = Any  # an int, or symbolic while a network is exported for images of any size
PADDINGS: tuple[Padding, ...] = ("tensorflow", "symmetric")


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round a channel count to a multiple of ``divisor``, at least ``divisor`` and never more than 10 % down.

    Args:
        channels: the wanted count, usually a paper's count times a width multiplier.
        divisor: 8 in the paper's networks; 1 in DeepLab's networks of other widths than 1.0.

    Source: ``_make_divisible`` of slim/nets/mobilenet/conv_blocks.py, its minimum being the divisor.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class SameConv2d(nn.Conv2d):
    """Convolution with an odd kernel whose output has ``ceil(size / stride)`` rows and columns.

    With ``padding="tensorflow"`` it samples where TensorFlow's ``SAME`` does: on an even side, stride 2 pads only
    right and bottom. With ``"symmetric"`` both sides get ``dilation * (kernel - 1) / 2``, as torchvision pads. On odd
    sides, the ones this library pads its images to, the two are the same.

    Stride and dilation may be changed on a live layer by :meth:`set_stride_and_dilation`; the weights stay.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        padding: Padding = "tensorflow",
    ) -> None:
        """Build the layer.

        Args:
            in_channels: channels of the input.
            out_channels: channels of the output.
            kernel_size: odd side of the square kernel.
            stride: step of the sampling grid.
            dilation: distance of the kernel's taps.
            groups: ``in_channels`` for a depthwise convolution.
            bias: whether a bias is learned.
            padding: ``"tensorflow"`` or ``"symmetric"``.

        Raises:
            ConfigError: an even kernel or an unknown padding.
        """
        if kernel_size % 2 == 0:
            raise ConfigError(f"kernel_size {kernel_size} is even; SAME padding is defined here for odd kernels")
        if padding not in PADDINGS:
            raise ConfigError(f"padding '{padding}' is unknown; allowed are {', '.join(PADDINGS)}")
        super().__init__(in_channels, out_channels, kernel_size, groups=groups, bias=bias)
        self.same_padding: Padding = padding
        self.set_stride_and_dilation(stride, dilation)

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change stride and dilation, keeping the weights."""
        self.stride = (stride, stride)
        self.dilation = (dilation, dilation)
        reach = dilation * (self.kernel_size[0] - 1) // 2
        self.padding = (reach, reach)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Convolve ``(b, c, h, w)`` to ``(b, d, ceil(h / stride), ceil(w / stride))``."""
        if self.same_padding == "symmetric" or self.stride == (1, 1):
            return super().forward(x)
        top, bottom = self._same_pad(x.shape[-2], 0)
        left, right = self._same_pad(x.shape[-1], 1)
        if (top, left) == (bottom, right) == self.padding:
            return super().forward(x)
        x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def _same_pad(self, size: Side, axis: int) -> tuple[Side, Side]:
        """Return TensorFlow's padding before and after one side of ``size``."""
        stride, reach = self.stride[axis], self.dilation[axis] * (self.kernel_size[axis] - 1)
        total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
        return total // 2, total - total // 2


class PooledBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that survives one value a channel, as the image-pooling branch has with a batch of one.

    A variance of a single value does not exist: ``torch`` raises there, TensorFlow outputs the bias whatever the input.
    This layer normalizes such a batch by its running statistics, which it leaves unchanged; every larger batch
    is treated as :class:`torch.nn.BatchNorm2d` does.
    """

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalize ``(b, c, h, w)``."""
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class ConvNormAct(nn.Module):
    """Convolution without bias, batch norm, and an activation if one is given."""

    def __init__(self, conv: SameConv2d, norm: nn.BatchNorm2d, activation: nn.Module | None = None) -> None:
        """Join the three layers; ``activation=None`` leaves the output linear."""
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.activation = nn.Identity() if activation is None else activation

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Map ``(b, c, h, w)`` to ``(b, d, ceil(h / stride), ceil(w / stride))``."""
        out: Tensor = self.activation(self.norm(self.conv(x)))
        return out
