"""ResNet's building block."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.nn.conv import ConvNormAct, Padding, SameConv2d

EXPANSION = 4


class Bottleneck(nn.Module):
    """Narrow by 1x1, filter by 3x3, widen by 1x1; add the input, then ReLU.

    The stride is that of the 3x3 layer. The input is added unchanged, sampled where the block strides, or through a 1x1
    projection where the channels change.

    Source: ResNet (arXiv 1512.03385), Figure 5; ``bottleneck`` of tensorflow/models
    research/deeplab core/resnet_v1_beta.py.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        grid: int = 1,
        padding: Padding = "tensorflow",
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.05,
    ) -> None:
        """Build the block at its nominal stride.

        Args:
            in_channels: channels of the input.
            channels: of the 3x3 layer; the output has four times as many.
            stride: 1 or 2.
            grid: factor of every dilation of this block (DeepLabv3's multi-grid).
            padding: ``"tensorflow"`` or ``"symmetric"``.
            norm_eps: epsilon of the batch norms.
            norm_momentum: share of a new batch in the running statistics (TensorFlow's decay is 1 minus this).
        """
        super().__init__()

        def layer(inputs: int, outputs: int, kernel: int, *, act: bool = True) -> ConvNormAct:
            return ConvNormAct(
                SameConv2d(inputs, outputs, kernel, padding=padding),
                nn.BatchNorm2d(outputs, eps=norm_eps, momentum=norm_momentum),
                nn.ReLU(inplace=True) if act else None,
            )

        out = channels * EXPANSION
        self.reduce = layer(in_channels, channels, 1)
        self.spatial = layer(channels, channels, 3)
        self.expand = layer(channels, out, 1, act=False)
        self.projection = layer(in_channels, out, 1, act=False) if in_channels != out else None
        self.grid = grid
        self.stride = stride
        self.set_stride_and_dilation(stride, 1)

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change stride and dilation, keeping the weights; the multi-grid factor comes on top of the dilation."""
        self.stride = stride
        self.spatial.conv.set_stride_and_dilation(stride, dilation * self.grid)
        if self.projection is not None:
            self.projection.conv.set_stride_and_dilation(stride, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Map ``(b, c, h, w)`` to ``(b, d, ceil(h / stride), ceil(w / stride))``."""
        residual = self.expand(self.spatial(self.reduce(x)))
        if self.projection is not None:
            shortcut = self.projection(x)
        else:
            shortcut = x if self.stride == 1 else x[..., :: self.stride, :: self.stride]
        out: Tensor = F.relu(shortcut + residual, inplace=True)
        return out
