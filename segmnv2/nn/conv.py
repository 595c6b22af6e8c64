"""Convolution and pooling with TensorFlow's padding, the layers of a model, and the rounding of channel counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.errors import ConfigError

Padding = Literal["tensorflow", "symmetric"]
Side = Any  # an int, or symbolic while a model is exported for images of any size
PADDINGS: tuple[Padding, ...] = ("tensorflow", "symmetric")


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round a channel count to a multiple of ``divisor``, at least ``divisor`` and at most 10 % below the count.

    Args:
        channels: the exact count, usually a paper's count times a width multiplier.
        divisor: 8 in the paper's models; 1 in DeepLab's models of other widths than 1.0.

    Source: ``_make_divisible`` of slim/nets/mobilenet/conv_blocks.py, with the divisor as minimum.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class SameConv2d(nn.Conv2d):
    """Convolution with an odd kernel whose output has ``ceil(size / stride)`` rows and columns.

    With ``padding="tensorflow"`` it samples where TensorFlow's ``SAME`` does: on an even side, stride 2 pads only at
    the right and bottom. With ``"symmetric"`` both sides get ``dilation * (kernel - 1) / 2``, as in torchvision.
    The two are equal on odd sides, and this library pads images to odd sides.

    :meth:`set_stride_and_dilation` changes stride and dilation later; the weights stay.
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
            ConfigError: the kernel size is even, or the padding is unknown.
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
    """Batch norm that accepts a single value per channel, as in the image-pooling branch with a batch of one.

    A single value has no variance: ``torch`` raises an error, and TensorFlow returns the bias for any input. This layer
    normalizes such a batch by its running statistics, which stay unchanged. It treats larger batches as
    :class:`torch.nn.BatchNorm2d` does.
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

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change stride and dilation, keeping the weights."""
        self.conv.set_stride_and_dilation(stride, dilation)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Map ``(b, c, h, w)`` to ``(b, d, ceil(h / stride), ceil(w / stride))``."""
        out: Tensor = self.activation(self.norm(self.conv(x)))
        return out


class Layers(NamedTuple):
    """Settings of the layers of a model, and methods that build them.

    Attributes:
        padding: ``"tensorflow"`` or ``"symmetric"``.
        norm_eps: epsilon of the batch norms.
        norm_momentum: share of a new batch in the running statistics (TensorFlow's decay is 1 minus this).
        activation: class of the activations.
    """

    padding: Padding = "tensorflow"
    norm_eps: float = 1e-3
    norm_momentum: float = 0.003
    activation: type[nn.ReLU | nn.ReLU6] = nn.ReLU6

    def norm(self, channels: int) -> nn.BatchNorm2d:
        """Return a fresh batch norm."""
        return nn.BatchNorm2d(channels, eps=self.norm_eps, momentum=self.norm_momentum)

    def conv(
        self, inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, act: bool = True
    ) -> ConvNormAct:
        """Return a fresh convolution with batch norm, and with an activation if ``act`` is true."""
        return ConvNormAct(
            SameConv2d(inputs, outputs, kernel, stride=stride, groups=groups, padding=self.padding),
            self.norm(outputs),
            self.activation(inplace=True) if act else None,
        )


def draw_truncated_normal(module: nn.Module, std: float) -> None:
    """Draw the weights of convolutions and linear layers from a normal distribution truncated at two deviations."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)


KERNEL = 3
Pads = tuple[Side, Side, Side, Side]  # left, right, top, bottom


class SamePool(nn.Module, ABC):
    """Pooling over 3x3 samples whose output has ``ceil(size / stride)`` rows and columns.

    The dilation is the distance of the samples. A pool whose stride is replaced by a dilation gives the same values,
    and more values between them.
    """

    def __init__(self, *, padding: Padding = "tensorflow") -> None:
        """Build the layer at stride 1; the two paddings differ only on even sides at stride 2."""
        super().__init__()
        self.same_padding: Padding = padding
        self.set_stride_and_dilation(1, 1)

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change the step of the sampling grid and the distance of the nine samples."""
        self.stride, self.dilation = stride, dilation

    def extra_repr(self) -> str:
        """Return the settings for ``repr``."""
        return f"stride={self.stride}, dilation={self.dilation}, padding={self.same_padding}"

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
        """Pool ``(b, c, h, w)`` to ``(b, c, ceil(h / stride), ceil(w / stride))``."""
        if self.dilation == 1 and (self.stride == 1 or self.same_padding == "symmetric"):
            return self._pool_plain(x)
        return self._pool(x, (*self._pads(x.shape[-1]), *self._pads(x.shape[-2])))

    def _pads(self, size: Side) -> tuple[Side, Side]:
        """Return the number of samples to add before and after one side of ``size``."""
        reach = self.dilation * (KERNEL - 1)
        if self.same_padding == "symmetric" or self.stride == 1:
            return reach // 2, reach // 2
        # (ceil(size / stride) - 1) * stride + reach + 1 - size is not negative, because reach is at least stride.
        total = reach - (size - 1) % self.stride
        return total // 2, total - total // 2

    @abstractmethod
    def _pool_plain(self, x: Tensor) -> Tensor:
        """Pool without dilation, with one added sample on every side."""

    @abstractmethod
    def _pool(self, x: Tensor, pads: Pads) -> Tensor:
        """Pool with any dilation and padding."""


class SameMaxPool(SamePool):
    """Maximum of 3x3 samples, without those outside the map."""

    def _pool_plain(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, KERNEL, self.stride, 1)

    def _pool(self, x: Tensor, pads: Pads) -> Tensor:
        return F.max_pool2d(F.pad(x, pads, value=-float("inf")), KERNEL, self.stride, 0, self.dilation)


class SameAveragePool(SamePool):
    """Mean of 3x3 samples; those outside the map are left out or count as zeros."""

    def __init__(self, *, padding: Padding = "tensorflow", count_zeros: bool = False) -> None:
        """Build the layer at stride 1.

        With ``count_zeros`` samples outside the map are zeros, as in ``nn.AvgPool2d``; TensorFlow leaves them out.
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
        """Return the sums of 3x3 samples, along columns and then rows, because torch has no dilated average pooling."""
        x = F.pad(x, pads)
        for dim in (-2, -1):
            span = x.shape[dim] - (KERNEL - 1) * self.dilation
            first, second, third = (x.narrow(dim, tap * self.dilation, span) for tap in range(KERNEL))
            x = first + second + third
        return x[..., :: self.stride, :: self.stride]
