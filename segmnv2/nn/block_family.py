"""The blocks that lead from a regular convolution to the paper's bottleneck, and what each costs."""

from __future__ import annotations

from torch import nn

from segmnv2.errors import ConfigError
from segmnv2.nn.blocks import DepthwiseSeparable, InvertedResidual
from segmnv2.nn.conv import ConvNormAct, Padding, SameConv2d

KERNEL = 3
BLOCK_KINDS = ("regular", "separable", "separable_linear", "bottleneck")
"""Source: MobileNetV2, Figure 2, a to d."""


class RegularConvolution(ConvNormAct):
    """A 3x3 convolution of all channels with all, batch norm and ReLU6.

    Source: MobileNetV2, Figure 2a.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        padding: Padding = "tensorflow",
        norm_eps: float = 1e-3,
        norm_momentum: float = 0.003,
    ) -> None:
        """Build the block at its nominal stride.

        Args:
            in_channels: channels of the input.
            out_channels: channels of the output.
            stride: 1 or 2.
            padding: ``"tensorflow"`` or ``"symmetric"``.
            norm_eps: epsilon of the batch norm.
            norm_momentum: share of a new batch in the running statistics (TensorFlow's decay is 1 minus this).
        """
        super().__init__(
            SameConv2d(in_channels, out_channels, KERNEL, stride=stride, padding=padding),
            nn.BatchNorm2d(out_channels, eps=norm_eps, momentum=norm_momentum),
            nn.ReLU6(inplace=True),
        )

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change stride and dilation, keeping the weights."""
        self.conv.set_stride_and_dilation(stride, dilation)


Block = RegularConvolution | DepthwiseSeparable | InvertedResidual


def create_block(
    kind: str,
    in_channels: int,
    out_channels: int,
    *,
    stride: int = 1,
    expansion: int = 6,
    padding: Padding = "tensorflow",
    norm_eps: float = 1e-3,
    norm_momentum: float = 0.003,
) -> Block:
    """Build one block of the paper's Figure 2 with fresh weights.

    Args:
        kind: ``"regular"``, a 3x3 convolution; ``"separable"``, 3x3 depthwise and 1x1; ``"separable_linear"``, the same
            without a non-linearity after the 1x1; ``"bottleneck"``, which expands by 1x1 before, and has its shortcut.
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: 1 or 2.
        expansion: factor of the bottleneck's inner width, rounded to a multiple of 8; the other kinds have none.
        padding: ``"tensorflow"`` or ``"symmetric"``.
        norm_eps: epsilon of the batch norms.
        norm_momentum: share of a new batch in the running statistics (TensorFlow's decay is 1 minus this).

    Returns:
        A block that maps (b, in_channels, h, w) to (b, out_channels, ceil(h / stride), ceil(w / stride)), and whose
        stride and dilation ``set_stride_and_dilation`` changes.

    Raises:
        ConfigError: an unknown kind, or a number that no block has.
    """
    _check(kind, in_channels, out_channels, stride, expansion)
    if kind == "regular":
        return RegularConvolution(
            in_channels, out_channels, stride=stride, padding=padding, norm_eps=norm_eps, norm_momentum=norm_momentum
        )
    if kind == "bottleneck":
        return InvertedResidual(
            in_channels,
            out_channels,
            expansion=expansion,
            stride=stride,
            padding=padding,
            norm_eps=norm_eps,
            norm_momentum=norm_momentum,
        )
    return DepthwiseSeparable(
        in_channels,
        out_channels,
        stride=stride,
        padding=padding,
        norm_eps=norm_eps,
        norm_momentum=norm_momentum,
        linear=kind == "separable_linear",
    )


def _check(kind: str, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
    if kind not in BLOCK_KINDS:
        raise ConfigError(f"block kind {kind!r} is unknown; allowed are {', '.join(BLOCK_KINDS)}")
    if stride not in (1, 2):
        raise ConfigError(f"stride {stride!r} is not possible; allowed are 1 and 2")
    counts = {"in_channels": in_channels, "out_channels": out_channels, "expansion": expansion}
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{name} {count!r} is not positive; give 1 or more")
