"""ShuffleNetV1, and torchvision's ShuffleNetV2, as feature extractors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.backbones.backbone import ChainBackbone, FeatureInfo, check_options
from segmnv2.errors import ConfigError
from segmnv2.nn.conv import Layers, SameAveragePool, SameMaxPool, make_divisible
from segmnv2.nn.stride import Strided

BOTTLENECK = 4
LAYERS = Layers("symmetric", 1e-5, 0.1, nn.ReLU)


def shuffle_channels(x: Float[Tensor, "b c h w"], groups: int) -> Float[Tensor, "b c h w"]:
    """Reorder the channels so that each of the ``groups`` new groups has channels of all old groups.

    The channels are written as a matrix of ``groups`` rows, which is transposed. The result is that of
    ``torch.nn.ChannelShuffle``, by operations that every exporter knows.

    Source: ShuffleNet, section 3.1.
    """
    batch, channels, height, width = x.shape
    return x.reshape(batch, groups, channels // groups, height, width).transpose(1, 2).flatten(1, 2)


class ShuffleUnit(nn.Module):
    """Grouped 1x1 to fewer channels, channel shuffle, depthwise 3x3, grouped 1x1 to more channels, shortcut, ReLU.

    At stride 1 the shortcut adds the input. At stride 2 it concatenates the 3x3 average of the input before the result,
    which has only the remaining channels.

    Source: ShuffleNet (arXiv 1707.01083), Figure 2 b and c.
    """

    def __init__(self, in_channels: int, out_channels: int, *, groups: int, stride: int, first_grouped: bool) -> None:
        """Build the unit at its nominal stride; with ``first_grouped`` the first 1x1 convolution has groups too.

        The number of output channels is a multiple of 4 times ``groups``. At stride 1 it is that of the input.
        """
        super().__init__()
        hidden = out_channels // BOTTLENECK
        added = out_channels if stride == 1 else out_channels - in_channels
        self.groups = groups
        self.reduce = LAYERS.conv(in_channels, hidden, groups=groups if first_grouped else 1)
        self.depthwise = LAYERS.conv(hidden, hidden, 3, groups=hidden, act=False)
        self.expand = LAYERS.conv(hidden, added, groups=groups, act=False)
        self.pool = SameAveragePool(padding="symmetric", count_zeros=True) if stride == 2 else None
        self.set_stride_and_dilation(stride, 1)

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change stride and dilation of the depthwise layer and of the average, keeping the weights."""
        self.depthwise.set_stride_and_dilation(stride, dilation)
        if self.pool is not None:
            self.pool.set_stride_and_dilation(stride, dilation)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Map ``(b, c, h, w)`` to ``(b, d, ceil(h / stride), ceil(w / stride))``."""
        residual = self.expand(self.depthwise(shuffle_channels(self.reduce(x), self.groups)))
        joined = x + residual if self.pool is None else torch.cat([self.pool(x), residual], dim=1)
        return F.relu(joined, inplace=True)


STAGE2_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
"""Channels of stage 2 by the number of groups; each later stage has twice as many as before. Source: Table 1."""

STAGE_UNITS = (4, 8, 4)
STEM_CHANNELS = 24
STEM_STD = 0.01
NORM_BIAS = 1e-4


def stem_channels(width: float, groups: int) -> int:
    """Return the channels of the stem: the paper's 24, but 12 up to width 0.5 and 48 from width 2.0 on.

    Only these give the paper's multiply-adds: 38, 138, 292 and 524 million for widths 0.5, 1.0, 1.5 and 2.0.

    Source: ShuffleNetV1/network.py of github.com/megvii-model/ShuffleNet-Series.
    """
    channels = STEM_CHANNELS // 2 if width <= 0.5 else STEM_CHANNELS * 2 if width >= 2 else STEM_CHANNELS
    return -(-channels // groups) * groups


class ShuffleNetV1(ChainBackbone):
    """ShuffleNetV1: a 3x3 stem, 3x3 max pooling, and three stages of shuffle units.

    At width 1.0 and 3 groups, the feature maps have 24, 24, 240, 480 and 960 channels at strides 2, 4, 8, 16 and 32.
    The second map is the first one after pooling. The output stride replaces larger strides.

    Padding is symmetric, as in the published code; no published weights need TensorFlow's padding.

    Source: ShuffleNet (arXiv 1707.01083), Table 1; channels of the stem, initialization and batch norm of
    ShuffleNetV1/network.py of github.com/megvii-model/ShuffleNet-Series.
    """

    def __init__(self, *, width: float = 1.0, groups: int = 3, output_stride: int = 32) -> None:
        """Build the backbone with fresh weights.

        Args:
            width: multiplier of the stages' channels, which become multiples of 4 times ``groups``; the published
                models have 0.5, 1.0, 1.5 and 2.0.
            groups: number of groups of the 1x1 convolutions: 1, 2, 3, 4 or 8.
            output_stride: 8, 16 or 32.

        Raises:
            ConfigError: a value is not possible.
        """
        super().__init__()
        check_options(width=width, groups=groups)
        if width < 0.25:
            raise ConfigError(f"width {width!r} is not in 0.25..4.0; the published models have 0.5, 1.0, 1.5 and 2.0")
        channels = stem_channels(width, groups)
        self.stem = LAYERS.conv(3, channels, 3)
        self.pool = SameMaxPool(padding="symmetric")
        self._nominal = [FeatureInfo(channels, 2), FeatureInfo(channels, 4)]
        self.stages = nn.ModuleList()
        for stage, count in enumerate(STAGE_UNITS):
            out = make_divisible(STAGE2_CHANNELS[groups] * 2**stage * width, BOTTLENECK * groups)
            units = nn.Sequential()
            for number in range(count):
                first = number == 0
                # As in the paper, the first 1x1 convolution has no groups, because its input has few channels.
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


NAMES = {
    0.5: "shufflenet_v2_x0_5",
    1.0: "shufflenet_v2_x1_0",
    1.5: "shufflenet_v2_x1_5",
    2.0: "shufflenet_v2_x2_0",
}
"""Width multiplier -> name in ``torchvision.models``."""


class ShuffleNetV2(ChainBackbone):
    """torchvision's ShuffleNetV2, with dilated depthwise convolutions for smaller output strides.

    At width 1.0, the feature maps have 24, 24, 116, 232 and 464 channels at strides 2, 4, 8, 16 and 32. The second map
    is the first one after pooling. The output stride replaces larger strides. With ``last_conv`` a sixth map follows:
    the 1024 channels of the classification network.

    Tensors have torchvision's names, so its ImageNet weights load unchanged, except ``fc`` (and ``conv5`` without
    ``last_conv``).

    Source: ShuffleNetV2 (arXiv 1807.11164), Table 5; ``torchvision.models.shufflenetv2``.
    """

    def __init__(self, *, width: float = 1.0, output_stride: int = 32, last_conv: bool = False) -> None:
        """Build the backbone with fresh weights.

        Args:
            width: 0.5, 1.0, 1.5 or 2.0.
            output_stride: 8, 16 or 32.
            last_conv: append the 1x1 convolution to 1024 channels (2048 at width 2.0).

        Raises:
            ConfigError: a value is not possible.
        """
        super().__init__()
        check_options(width=width, last_conv=last_conv)
        if width not in NAMES:
            allowed = ", ".join(map(str, NAMES))
            raise ConfigError(f"width {width!r} is not possible; torchvision's ShuffleNetV2 has {allowed}")
        from torchvision import models  # imported here, because only this backbone needs it

        network = models.get_model(NAMES[width], weights=None)
        self.conv1 = network.conv1
        self.maxpool = network.maxpool
        self.stage2 = network.stage2
        self.stage3 = network.stage3
        self.stage4 = network.stage4
        self.conv5 = network.conv5 if last_conv else None
        # A stage ends in a batch norm over half of its output channels.
        stem = self.conv1[0].out_channels
        stages = [2 * stage[-1].branch2[-2].num_features for stage in (self.stage2, self.stage3, self.stage4)]
        self._nominal = [FeatureInfo(c, s) for c, s in zip((stem, stem, *stages), (2, 4, 8, 16, 32), strict=True)]
        if self.conv5 is not None:
            self._nominal.append(FeatureInfo(self.conv5[0].out_channels, 32))
        self.set_output_stride(output_stride)

    def strided_layers(self) -> Sequence[tuple[Strided, int]]:
        """Return the stem's convolution, the pooling and the units with their nominal strides."""
        layers: list[tuple[Strided, int]] = [(_Windows([self.conv1[0]]), 2), (_Windows([self.maxpool]), 2)]
        for stage in (self.stage2, self.stage3, self.stage4):
            for number, unit in enumerate(stage):
                depthwise = [m for m in unit.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels]
                layers.append((_Windows(depthwise), 2 if number == 0 else 1))
        return layers

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _c _h _w"], ...]:
        """Map normalized images (b, 3, h, w) to the feature maps, finest first."""
        features = [self.conv1(x)]
        for step in (self.maxpool, self.stage2, self.stage3, self.stage4, self.conv5):
            if step is not None:
                features.append(step(features[-1]))
        return tuple(features)


@dataclass(frozen=True)
class _Windows:
    """Layers of torchvision with 3x3 windows whose strides and dilations change together."""

    layers: Sequence[nn.Conv2d | nn.MaxPool2d]

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change stride and dilation, and pad so that output samples keep their positions."""
        for layer in self.layers:
            layer.stride = (stride, stride)
            layer.dilation = layer.padding = (dilation, dilation)
