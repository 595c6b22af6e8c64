"""Building blocks of networks: depthwise separable convolutions, and inverted residuals."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.errors import ConfigError
from segmnv2.nn.conv import ConvNormAct, Padding, SameConv2d, make_divisible


class DepthwiseSeparable(nn.Module):
    """Filter each channel by 3x3, then mix the channels by 1x1; batch norm and ReLU6 after both.

    Source: MobileNetV1, Figure 3; MobileNetV2, Figure 2b.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        padding: Padding = "tensorflow",
        norm_eps: float = 1e-3,
        norm_momentum: float = 0.0003,
        linear: bool = False,
    ) -> None:
        """Build the block at its nominal stride.

        Args:
            in_channels: channels of the input.
            out_channels: channels of the output.
            stride: 1 or 2, of the depthwise layer.
            padding: ``"tensorflow"`` or ``"symmetric"``.
            norm_eps: epsilon of the batch norms.
            norm_momentum: share of a new batch in the running statistics (TensorFlow's decay is 1 minus this).
            linear: leave out the last ReLU6, so that the output is a linear bottleneck (MobileNetV2, Figure 2c).
        """
        super().__init__()

        def layer(outputs: int, kernel: int, groups: int, *, act: bool = True) -> ConvNormAct:
            return ConvNormAct(
                SameConv2d(in_channels, outputs, kernel, groups=groups, padding=padding),
                nn.BatchNorm2d(outputs, eps=norm_eps, momentum=norm_momentum),
                nn.ReLU6(inplace=True) if act else None,
            )

        self.depthwise = layer(in_channels, 3, in_channels)
        self.pointwise = layer(out_channels, 1, 1, act=not linear)
        self.set_stride_and_dilation(stride, 1)

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change stride and dilation of the depthwise layer, keeping the weights."""
        self.depthwise.conv.set_stride_and_dilation(stride, dilation)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Map ``(b, c, h, w)`` to ``(b, d, ceil(h / stride), ceil(w / stride))``."""
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


SHORTCUTS = ("bottleneck", "expansion", "none")
"""Kinds of shortcuts: between the narrow ends of a block, the wide layers of consecutive blocks, or nothing."""


class InvertedResidual(nn.Module):
    """The paper's bottleneck: expand by 1x1, filter depthwise by 3x3, project linearly by 1x1.

    Input and output are narrow and linear; a shortcut joins them where the block keeps both size and width.

    Two switches, which change no weight, undo what is new in it, as the paper's Figure 6 does. The paper draws their
    curves and gives no formula; the arguments state how it is read here.

    Attributes:
        shortcut: whether the input is added to the output; it is not changed when stride and dilation change.

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
        padding: Padding = "tensorflow",
        norm_eps: float = 1e-3,
        norm_momentum: float = 0.003,
        bottleneck_activation: bool = False,
        shortcut: str = "bottleneck",
    ) -> None:
        """Build the block at its nominal stride.

        Args:
            in_channels: channels of the input.
            out_channels: channels of the output.
            expansion: factor of the inner width; 1 leaves the expansion layer out.
            stride: 1 or 2, of the depthwise layer.
            padding: ``"tensorflow"`` or ``"symmetric"``.
            norm_eps: epsilon of the batch norms.
            norm_momentum: share of a new batch in the running statistics (TensorFlow's decay is 1 minus this).
            bottleneck_activation: apply ReLU6 to the projection, before the shortcut's sum (Figure 6a's "relu6 in
                bottleneck", as read here).
            shortcut: ``"bottleneck"`` adds the input to the output. ``"none"`` adds nothing. Neither does
                ``"expansion"``: there, whoever chains the blocks adds the expansion of one to that of the next and
                hands on the sum (Figure 6b's "shortcut between expansions", as read here).

        Raises:
            ConfigError: an unknown shortcut, or a switch that is not true or false.
        """
        if shortcut not in SHORTCUTS:
            raise ConfigError(f"shortcut {shortcut!r} is unknown; allowed are {', '.join(SHORTCUTS)}")
        if not isinstance(bottleneck_activation, bool):
            raise ConfigError(f"bottleneck_activation {bottleneck_activation!r} is not a switch; give true or false")
        super().__init__()
        hidden = make_divisible(in_channels * expansion) if expansion > 1 else in_channels

        def layer(inputs: int, outputs: int, kernel: int, *, depthwise: bool = False, act: bool = True) -> ConvNormAct:
            return ConvNormAct(
                SameConv2d(inputs, outputs, kernel, groups=inputs if depthwise else 1, padding=padding),
                nn.BatchNorm2d(outputs, eps=norm_eps, momentum=norm_momentum),
                nn.ReLU6(inplace=True) if act else None,
            )

        self.expand = layer(in_channels, hidden, 1) if expansion > 1 else None
        self.depthwise = layer(hidden, hidden, 3, depthwise=True)
        self.project = layer(hidden, out_channels, 1, act=bottleneck_activation)
        self.shortcut = shortcut == "bottleneck" and stride == 1 and in_channels == out_channels
        self.set_stride_and_dilation(stride, 1)

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change stride and dilation of the depthwise layer, keeping the weights."""
        self.depthwise.conv.set_stride_and_dilation(stride, dilation)

    def widen(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e h w"]:
        """Return the expansion (b, e, h, w) of the input (b, c, h, w), which is the input where there is no layer."""
        expanded: Tensor = x if self.expand is None else self.expand(x)
        return expanded

    def forward(
        self, x: Float[Tensor, "b c h w"], expanded: Float[Tensor, "b e h w"] | None = None
    ) -> Float[Tensor, "b d i j"]:
        """Map ``(b, c, h, w)`` to ``(b, d, ceil(h / stride), ceil(w / stride))``.

        Args:
            x: the input.
            expanded: what to filter in place of ``widen(x)``; a chain with shortcuts between expansions gives it.
        """
        hidden = self.widen(x) if expanded is None else expanded
        out: Tensor = self.project(self.depthwise(hidden))
        return x + out if self.shortcut else out
