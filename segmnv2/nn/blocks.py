"""Building blocks of the paper's Figure 2, from a regular convolution to the bottleneck."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.errors import ConfigError
from segmnv2.nn.conv import ConvNormAct, Layers, Padding, make_divisible


class DepthwiseSeparable(nn.Module):
    """Depthwise 3x3 convolution and 1x1 convolution, each with batch norm and ReLU6.

    Source: MobileNetV1, Figure 3; MobileNetV2, Figure 2b.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int, layers: Layers, linear: bool = False
    ) -> None:
        """Build the block; ``stride``, 1 or 2, is the nominal stride of the depthwise layer.

        With ``linear`` the last activation is omitted, so the output is a linear bottleneck (MobileNetV2, Figure 2c).
        """
        super().__init__()
        self.depthwise = layers.conv(in_channels, in_channels, 3, groups=in_channels)
        self.pointwise = layers.conv(in_channels, out_channels, act=not linear)
        self.set_stride_and_dilation(stride, 1)

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change stride and dilation of the depthwise layer, keeping the weights."""
        self.depthwise.set_stride_and_dilation(stride, dilation)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Map ``(b, c, h, w)`` to ``(b, d, ceil(h / stride), ceil(w / stride))``."""
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


SHORTCUTS = ("bottleneck", "expansion", "none")
"""Kinds of shortcuts: between the narrow ends of a block, between the expansions of consecutive blocks, or none."""


class InvertedResidual(nn.Module):
    """The paper's bottleneck: 1x1 expansion, depthwise 3x3 convolution and linear 1x1 projection.

    Input and output are narrow and linear; a shortcut joins them if they have the same size and width.

    The options ``bottleneck_activation`` and ``shortcut`` build the variants that the paper compares in Figure 6. They
    do not change the weights. The paper shows only curves, so their formulas are this library's interpretation.

    Attributes:
        shortcut: whether the input is added to the output. A change of stride or dilation does not change it.

    Source: MobileNetV2, Figure 3b, Table 1 and Figure 6; slim's ``expanded_conv``, which rounds the expansion to a
    multiple of 8.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expansion: int,
        stride: int,
        layers: Layers = Layers(),  # noqa: B008 - immutable
        bottleneck_activation: bool = False,
        shortcut: str = "bottleneck",
    ) -> None:
        """Build the block at its nominal stride.

        Args:
            in_channels: channels of the input.
            out_channels: channels of the output.
            expansion: factor of the inner width; 1 omits the expansion layer.
            stride: nominal stride of the depthwise layer, 1 or 2.
            layers: padding, batch norm and activation.
            bottleneck_activation: apply ReLU6 to the projection before the shortcut is added ("relu6 in bottleneck" of
                Figure 6a).
            shortcut: ``"bottleneck"`` adds the input to the output. ``"none"`` adds nothing. ``"expansion"`` adds
                nothing either; the backbone adds the expansion of each block to that of the next ("shortcut between
                expansions" of Figure 6b).

        Raises:
            ConfigError: the shortcut is unknown, or ``bottleneck_activation`` is not a boolean.
        """
        if shortcut not in SHORTCUTS:
            raise ConfigError(f"shortcut {shortcut!r} is unknown; allowed are {', '.join(SHORTCUTS)}")
        if not isinstance(bottleneck_activation, bool):
            raise ConfigError(f"bottleneck_activation {bottleneck_activation!r} is not possible; give true or false")
        super().__init__()
        hidden = make_divisible(in_channels * expansion) if expansion > 1 else in_channels
        self.expand = layers.conv(in_channels, hidden) if expansion > 1 else None
        self.depthwise = layers.conv(hidden, hidden, 3, groups=hidden)
        self.project = layers.conv(hidden, out_channels, act=bottleneck_activation)
        self.shortcut = shortcut == "bottleneck" and stride == 1 and in_channels == out_channels
        self.set_stride_and_dilation(stride, 1)

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change stride and dilation of the depthwise layer, keeping the weights."""
        self.depthwise.set_stride_and_dilation(stride, dilation)

    def widen(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e h w"]:
        """Return the expansion (b, e, h, w) of the input (b, c, h, w), or the input if there is no expansion layer."""
        expanded: Tensor = x if self.expand is None else self.expand(x)
        return expanded

    def forward(
        self, x: Float[Tensor, "b c h w"], expanded: Float[Tensor, "b e h w"] | None = None
    ) -> Float[Tensor, "b d i j"]:
        """Map ``(b, c, h, w)`` to ``(b, d, ceil(h / stride), ceil(w / stride))``.

        Args:
            x: the input.
            expanded: input of the depthwise layer in place of ``widen(x)``, for shortcuts between expansions.
        """
        hidden = self.widen(x) if expanded is None else expanded
        out: Tensor = self.project(self.depthwise(hidden))
        return x + out if self.shortcut else out


BLOCK_KINDS = ("regular", "separable", "separable_linear", "bottleneck")
"""Source: MobileNetV2, Figure 2, a to d."""

Block = ConvNormAct | DepthwiseSeparable | InvertedResidual


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
        kind: ``"regular"`` is a 3x3 convolution. ``"separable"`` is a depthwise 3x3 and a 1x1 convolution.
            ``"separable_linear"`` is the same without the last activation. ``"bottleneck"`` adds to that a 1x1
            expansion at the start, and a shortcut.
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: 1 or 2.
        expansion: factor of the bottleneck's inner width, rounded to a multiple of 8; other kinds ignore it.
        padding: ``"tensorflow"`` or ``"symmetric"``.
        norm_eps: epsilon of the batch norms.
        norm_momentum: share of a new batch in the running statistics (TensorFlow's decay is 1 minus this).

    Returns:
        A block that maps (b, in_channels, h, w) to (b, out_channels, ceil(h / stride), ceil(w / stride)). Its method
        ``set_stride_and_dilation`` changes stride and dilation.

    Raises:
        ConfigError: the kind is unknown, or a number is not possible.
    """
    if kind not in BLOCK_KINDS:
        raise ConfigError(f"block kind {kind!r} is unknown; allowed are {', '.join(BLOCK_KINDS)}")
    if stride not in (1, 2):
        raise ConfigError(f"stride {stride!r} is not possible; allowed are 1 and 2")
    counts = {"in_channels": in_channels, "out_channels": out_channels, "expansion": expansion}
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{name} {count!r} is not positive; give 1 or more")
    layers = Layers(padding, norm_eps, norm_momentum)
    if kind == "regular":
        return layers.conv(in_channels, out_channels, 3, stride=stride)
    if kind == "bottleneck":
        return InvertedResidual(in_channels, out_channels, expansion=expansion, stride=stride, layers=layers)
    linear = kind == "separable_linear"
    return DepthwiseSeparable(in_channels, out_channels, stride=stride, layers=layers, linear=linear)
