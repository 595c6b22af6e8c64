"""Atrous spatial pyramid pooling, and the image-level feature that the head has even without it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.nn.conv import ConvNormAct, PooledBatchNorm2d, SameConv2d
from segmnv2.nn.resize import resize_bilinear

BASE_RATES = (6, 12, 18)
"""Dilations at output stride 16; at 8 they double and at 32 they halve, so that they span the same pixels."""

NORM_EPS = 1e-5
NORM_MOMENTUM = 0.0003  # TensorFlow's decay of 0.9997, seen from the other side


def conv_norm_relu(in_channels: int, out_channels: int, kernel_size: int = 1, *, pooled: bool = False) -> ConvNormAct:
    """Return the head's layer: convolution, batch norm (epsilon 1e-5, decay 0.9997), ReLU.

    Source: ``extract_features`` of tensorflow/models research/deeplab/model.py.
    """
    norm = PooledBatchNorm2d if pooled else nn.BatchNorm2d
    return ConvNormAct(
        SameConv2d(in_channels, out_channels, kernel_size),
        norm(out_channels, eps=NORM_EPS, momentum=NORM_MOMENTUM),
        nn.ReLU(inplace=True),
    )


class Aspp(nn.Module):
    """Parallel branches over one feature map, concatenated: image pooling, 1x1 and, with ``aspp``, three dilated 3x3.

    The image-level feature is the mean over the whole map, also where the map is larger than the one trained on
    (TensorFlow's window of the crop's size is that same mean whenever the image is evaluated on its crop).

    Source: DeepLabv3, Figure 5; order of concatenation and separate 3x3 convolutions (ordinary, not separable) of
    tensorflow/models research/deeplab/model.py.
    """

    def __init__(self, in_channels: int, channels: int = 256, *, aspp: bool = True) -> None:
        """Build the branches at output stride 16.

        Args:
            in_channels: channels of the feature map.
            channels: channels of each branch.
            aspp: whether the three dilated branches exist.
        """
        super().__init__()
        self.image_pooling = conv_norm_relu(in_channels, channels, pooled=True)
        self.pointwise = conv_norm_relu(in_channels, channels)
        self.atrous = nn.ModuleList(conv_norm_relu(in_channels, channels, 3) for _ in BASE_RATES if aspp)
        self.out_channels = channels * (2 + len(self.atrous))
        self.set_output_stride(16)

    def set_output_stride(self, output_stride: int) -> None:
        """Set the dilations for a feature map of that stride, keeping the weights."""
        for branch, rate in zip(self.atrous, BASE_RATES, strict=False):
            assert isinstance(branch, ConvNormAct)
            branch.conv.set_stride_and_dilation(1, rate * 16 // output_stride)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Map features (b, c, h, w) to (b, out_channels, h, w)."""
        pooled = self.image_pooling(x.mean((2, 3), keepdim=True))
        branches = [resize_bilinear(pooled, (x.shape[2], x.shape[3])), self.pointwise(x)]
        return torch.cat(branches + [branch(x) for branch in self.atrous], dim=1)
