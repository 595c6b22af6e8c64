"""MobileNetV1's building block."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.nn.conv import ConvNormAct, Padding, SameConv2d


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
