"""MobileNetV1 as a feature extractor."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.backbones.backbone import ChainBackbone, FeatureInfo, check_options, stage_ends
from segmnv2.nn.blocks import DepthwiseSeparable
from segmnv2.nn.conv import Layers, Padding, draw_truncated_normal
from segmnv2.nn.stride import Strided

STEM_CHANNELS = 32
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *5 * ((512, 1),), (1024, 2), (1024, 1))
"""Channels and stride of each block. Source: MobileNetV1, Table 1 (the last block has stride 1, not 2 as printed)."""

LEAST_CHANNELS = 8
WEIGHT_STD = 0.09
NORM_MOMENTUM = 0.0003  # 1 minus TensorFlow's decay of 0.9997


class MobileNetV1(ChainBackbone):
    """MobileNetV1: a 3x3 stem and 13 depthwise-separable blocks.

    At width 1.0, the feature maps have 64, 128, 256, 512 and 1024 channels at strides 2, 4, 8, 16 and 32. The output
    stride replaces larger strides.

    Source: MobileNetV1 (arXiv 1704.04861), Table 1; rounding of channels, initialization (truncated normal, 0.09) and
    batch norm (epsilon 1e-3, decay 0.9997) of slim/nets/mobilenet_v1.py.
    """

    def __init__(
        self, *, width: float = 1.0, output_stride: int = 32, padding: Padding = "tensorflow", norm_eps: float = 1e-3
    ) -> None:
        """Build the backbone with fresh weights.

        Args:
            width: multiplier of every layer's channels; the paper uses 0.25 to 1.0.
            output_stride: 8, 16 or 32.
            padding: ``"tensorflow"`` for weights from TensorFlow, ``"symmetric"`` for timm's; they differ only for even
                sides.
            norm_eps: epsilon of the batch norms; 1e-3 in TensorFlow, 1e-5 in timm.

        Raises:
            ConfigError: a value is not possible.
        """
        super().__init__()
        check_options(width=width, padding=padding, norm_eps=norm_eps)
        layers = Layers(padding, norm_eps, NORM_MOMENTUM)
        channels = _scaled(STEM_CHANNELS, width)
        self.stem = layers.conv(3, channels, 3)
        self.blocks = nn.ModuleList()
        self._strides = [2]
        for nominal, stride in BLOCKS:
            out = _scaled(nominal, width)
            self.blocks.append(DepthwiseSeparable(channels, out, stride=stride, layers=layers))
            self._strides.append(stride)
            channels = out
        self._taps = stage_ends(self._strides[1:])
        self._nominal = tuple(
            FeatureInfo(_scaled(BLOCKS[index][0], width), 2 ** (level + 1)) for level, index in enumerate(self._taps)
        )
        draw_truncated_normal(self, WEIGHT_STD)
        self.set_output_stride(output_stride)

    def strided_layers(self) -> Sequence[tuple[Strided, int]]:
        """Return the stem's convolution and the blocks with their nominal strides."""
        return list(zip((self.stem.conv, *self.blocks), self._strides, strict=True))

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _c _h _w"], ...]:
        """Map normalized images (b, 3, h, w), -1..1 for TensorFlow's weights, to the feature maps, finest first."""
        features = []
        x = self.stem(x)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self._taps:
                features.append(x)
        return tuple(features)


def _scaled(channels: int, width: float) -> int:
    return max(int(channels * width), LEAST_CHANNELS)
