"""ShuffleNet's building block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.nn.conv import ConvNormAct, SameConv2d
from segmnv2.nn.pool import SameAveragePool

BOTTLENECK = 4


def shuffle_channels(x: Float[Tensor, "b c h w"], groups: int) -> Float[Tensor, "b c h w"]:
    """Reorder the channels so that each of ``groups`` equal runs holds channels of all the former runs.

    Source: ShuffleNet, section 3.1: as a matrix of ``groups`` rows, transposed. As ``torch.nn.ChannelShuffle``, in
    operations that every exporter knows.
    """
    batch, channels, height, width = x.shape
    return x.reshape(batch, groups, channels // groups, height, width).transpose(1, 2).flatten(1, 2)


class ShuffleUnit(nn.Module):
    """Narrow by grouped 1x1, shuffle the channels, filter depthwise by 3x3, widen by grouped 1x1; join, then ReLU.

    At stride 1 the input is added. At stride 2 its 3x3 average is put before the result, which has the channels that
    are still wanting.

    Source: ShuffleNet (arXiv 1707.01083), Figure 2 b and c.
    """

    def __init__(self, in_channels: int, out_channels: int, *, groups: int, stride: int, first_grouped: bool) -> None:
        """Build the unit at its nominal stride.

        Args:
            in_channels: channels of the input; those of the output at stride 1.
            out_channels: channels of the output, a multiple of 4 times ``groups``, and more than those of the input at
                stride 2.
            groups: of both 1x1 convolutions.
            stride: 1 or 2.
            first_grouped: whether the first 1x1 convolution is grouped too.
        """
        super().__init__()
        hidden = out_channels // BOTTLENECK
        wanting = out_channels if stride == 1 else out_channels - in_channels

        def layer(inputs: int, outputs: int, kernel: int, groups: int, *, act: bool) -> ConvNormAct:
            return ConvNormAct(
                SameConv2d(inputs, outputs, kernel, groups=groups, padding="symmetric"),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True) if act else None,
            )

        self.groups = groups
        self.reduce = layer(in_channels, hidden, 1, groups if first_grouped else 1, act=True)
        self.depthwise = layer(hidden, hidden, 3, hidden, act=False)
        self.expand = layer(hidden, wanting, 1, groups, act=False)
        self.pool = SameAveragePool(padding="symmetric", count_zeros=True) if stride == 2 else None
        self.set_stride_and_dilation(stride, 1)

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change stride and dilation of the depthwise layer and of the average, keeping the weights."""
        self.depthwise.conv.set_stride_and_dilation(stride, dilation)
        if self.pool is not None:
            self.pool.set_stride_and_dilation(stride, dilation)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Map ``(b, c, h, w)`` to ``(b, d, ceil(h / stride), ceil(w / stride))``."""
        residual = self.expand(self.depthwise(shuffle_channels(self.reduce(x), self.groups)))
        joined = x + residual if self.pool is None else torch.cat([self.pool(x), residual], dim=1)
        return F.relu(joined, inplace=True)
