"""The blocks that lead from a regular convolution to the paper's bottleneck, and what each costs."""

from __future__ import annotations

from torch import nn

from segmnv2.errors import ConfigError
from segmnv2.nn.blocks import DepthwiseSeparable, InvertedResidual
from segmnv2.nn.conv import ConvNormAct, Padding, SameConv2d, make_divisible

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


def block_madds(
    kind: str, in_channels: int, out_channels: int, size: tuple[int, int], *, stride: int = 1, expansion: int = 6
) -> int:
    """Return the multiply-adds of a block's convolutions, by the paper's formulas.

    With d channels in, e out, kernel side k and an input of h x w, at stride 1: ``h w d e k k`` for a regular
    convolution, ``h w d (k k + e)`` for a separable one, linear or not, and ``h w d t (d + k k + e)`` for a bottleneck
    of expansion t. At stride 2 all but the expansion is computed on the smaller map; with t = 1 there is no
    expansion to compute.

    Args:
        kind: as in :func:`create_block`.
        in_channels: channels of the input.
        out_channels: channels of the output.
        size: (height, width) of the input in samples.
        stride: 1 or 2.
        expansion: of the bottleneck; its inner width is rounded as the block's is.

    Raises:
        ConfigError: an unknown kind, or a number that no block has.

    Source: MobileNetV2, sections 3.1 and 3.3.
    """
    _check(kind, in_channels, out_channels, stride, expansion)
    before = size[0] * size[1]
    after = -(-size[0] // stride) * -(-size[1] // stride)
    taps = KERNEL * KERNEL
    if kind == "regular":
        return after * in_channels * out_channels * taps
    if kind != "bottleneck" or expansion == 1:
        return after * in_channels * (taps + out_channels)
    hidden = make_divisible(in_channels * expansion)
    return before * in_channels * hidden + after * hidden * (taps + out_channels)


def _check(kind: str, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
    if kind not in BLOCK_KINDS:
        raise ConfigError(f"block kind {kind!r} is unknown; allowed are {', '.join(BLOCK_KINDS)}")
    if stride not in (1, 2):
        raise ConfigError(f"stride {stride!r} is not possible; allowed are 1 and 2")
    counts = {"in_channels": in_channels, "out_channels": out_channels, "expansion": expansion}
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{name} {count!r} is not positive; give 1 or more")
