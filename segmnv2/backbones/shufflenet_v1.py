"""ShuffleNet, the first version, as a feature extractor."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.backbones.backbone import ChainBackbone, FeatureInfo
from segmnv2.backbones.backbone_options import check_options
from segmnv2.errors import ConfigError
from segmnv2.nn.conv import ConvNormAct, SameConv2d, make_divisible
from segmnv2.nn.pool import SameMaxPool
from segmnv2.nn.shuffle_unit import BOTTLENECK, ShuffleUnit
from segmnv2.nn.stride import Strided

STAGE2_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
"""Channels of stage 2 by the number of groups; each later stage has twice those of the one before. Source: Table 1."""

STAGE_UNITS = (4, 8, 4)
STEM_CHANNELS = 24
STEM_STD = 0.01
NORM_BIAS = 1e-4


def stem_channels(width: float, groups: int) -> int:
    """Return the channels of the stem: half the paper's 24 up to width 0.5, twice from 2.0 on.

    Only so are the printed multiply-adds met: 38, 138, 292 and 524 million for widths 0.5, 1.0, 1.5 and 2.0.

    Source: ShuffleNetV1/network.py of github.com/megvii-model/ShuffleNet-Series.
    """
    channels = STEM_CHANNELS // 2 if width <= 0.5 else STEM_CHANNELS * 2 if width >= 2 else STEM_CHANNELS
    return -(-channels // groups) * groups


class ShuffleNetV1(ChainBackbone):
    """ShuffleNet: a 3x3 stem, a maximum over 3x3, and three stages of shuffle units.

    Feature maps, at width 1.0 and 3 groups: 24 channels at stride 2 and, pooled, at 4, then 240 at 8, 480 at 16, 960 at
    32 (the last two, or last, at the output stride when that is smaller).

    Padding is symmetric, as in the published code; there are no weights from TensorFlow to be true to.

    Source: ShuffleNet (arXiv 1707.01083), Table 1; channels of the stem, initialization and batch norm of
    ShuffleNetV1/network.py of github.com/megvii-model/ShuffleNet-Series.
    """

    def __init__(self, *, width: float = 1.0, groups: int = 3, output_stride: int = 32) -> None:
        """Build the network with fresh weights.

        Args:
            width: multiplier of the stages' channels, which become multiples of 4 times ``groups``; the published
                networks have 0.5, 1.0, 1.5 and 2.0.
            groups: of the 1x1 convolutions: 1, 2, 3, 4 or 8.
            output_stride: 8, 16 or 32.

        Raises:
            ConfigError: a value outside the stated ones.
        """
        super().__init__()
        check_options(width=width, groups=groups)
        if width < 0.25:
            raise ConfigError(f"width {width!r} is not in 0.25..4.0; the published networks have 0.5, 1.0, 1.5 and 2.0")
        channels = stem_channels(width, groups)
        self.stem = ConvNormAct(
            SameConv2d(3, channels, 3, padding="symmetric"), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.pool = SameMaxPool(padding="symmetric")
        self._nominal = [FeatureInfo(channels, 2), FeatureInfo(channels, 4)]
        self.stages = nn.ModuleList()
        for stage, count in enumerate(STAGE_UNITS):
            out = make_divisible(STAGE2_CHANNELS[groups] * 2**stage * width, BOTTLENECK * groups)
            units = nn.Sequential()
            for number in range(count):
                first = number == 0
                # The paper leaves the very first 1x1 ungrouped: its input has few channels.
                grouped = stage > 0 or not first
                units.append(ShuffleUnit(channels, out, groups=groups, stride=2 if first else 1, first_grouped=grouped))
                channels = out
            self.stages.append(units)
            self._nominal.append(FeatureInfo(channels, 8 * 2**stage))
        self._initialize()
        self.set_output_stride(output_stride)

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=1 / module.weight.shape[1])
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.bias, NORM_BIAS)
        nn.init.normal_(self.stem.conv.weight, std=STEM_STD)

    def strided_layers(self) -> Sequence[tuple[Strided, int]]:
        """Return the stem's convolution, the pooling and the units with their nominal strides."""
        layers: list[tuple[Strided, int]] = [(self.stem.conv, 2), (self.pool, 2)]
        for stage in self.stages:
            assert isinstance(stage, nn.Sequential)
            for number, unit in enumerate(stage):
                assert isinstance(unit, ShuffleUnit)
                layers.append((unit, 2 if number == 0 else 1))
        return layers

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _c _h _w"], ...]:
        """Map normalized images (b, 3, h, w) to the feature maps, finest first."""
        features = [self.stem(x)]
        for step in (self.pool, *self.stages):
            features.append(step(features[-1]))
        return tuple(features)
