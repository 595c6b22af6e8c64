"""ResNet with bottleneck units, in the forms of DeepLab and torchvision."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.backbones.backbone import ChainBackbone, FeatureInfo, check_options, stage_ends
from segmnv2.errors import ConfigError
from segmnv2.nn.conv import ConvNormAct, Layers, Padding, SameMaxPool
from segmnv2.nn.stride import Strided

EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1 to fewer channels, 3x3, 1x1 to more channels; then the input is added, and ReLU.

    The 3x3 layer has the stride. The input is added unchanged, or subsampled if there is a stride, or through a 1x1
    projection if the number of channels changes.

    Source: ResNet (arXiv 1512.03385), Figure 5; ``bottleneck`` of tensorflow/models
    research/deeplab core/resnet_v1_beta.py.
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, grid: int = 1, layers: Layers) -> None:
        """Build the block at its nominal stride.

        The output has four times as many channels as the 3x3 layer. ``grid`` is a factor of every dilation of this
        block (DeepLabv3's multi-grid).
        """
        super().__init__()
        out = channels * EXPANSION
        self.reduce = layers.conv(in_channels, channels)
        self.spatial = layers.conv(channels, channels, 3)
        self.expand = layers.conv(channels, out, act=False)
        self.projection = layers.conv(in_channels, out, act=False) if in_channels != out else None
        self.grid = grid
        self.set_stride_and_dilation(stride, 1)

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change stride and dilation, keeping the weights; the dilation is multiplied by the multi-grid factor."""
        self.stride = stride
        self.spatial.set_stride_and_dilation(stride, dilation * self.grid)
        if self.projection is not None:
            self.projection.set_stride_and_dilation(stride, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Map ``(b, c, h, w)`` to ``(b, d, ceil(h / stride), ceil(w / stride))``."""
        residual = self.expand(self.spatial(self.reduce(x)))
        if self.projection is not None:
            shortcut = self.projection(x)
        else:
            shortcut = x if self.stride == 1 else x[..., :: self.stride, :: self.stride]
        out: Tensor = F.relu(shortcut + residual, inplace=True)
        return out


STAGE_CHANNELS = (64, 128, 256, 512)
RESNET101_UNITS = (3, 4, 23, 3)
MULTI_GRID = (1, 2, 4)
NORM_MOMENTUM = 0.05  # 1 minus TensorFlow's decay of 0.95; 0.9997 is the head's


class ResNet(ChainBackbone):
    """Stem, pooling and four stages of bottleneck units; by default DeepLab's ``resnet_v1_101_beta``.

    The feature maps are that of the stem at stride 2, then 256, 512, 1024 and 2048 channels at strides 4, 8, 16 and 32.
    Each is the last map of its stride. The output stride replaces larger strides.

    In DeepLab's network (``stem="deep"``, ``strided_unit="last"``) the last unit of each of the first three stages has
    a stride of 2. So the maps at strides 4, 8 and 16 come from the unit before it. In torchvision's and timm's
    (``strided_unit="first"``) the first unit of each of the last three stages has it.

    Source: tensorflow/models research/deeplab/core/resnet_v1_beta.py; batch norm (epsilon 1e-5, decay 0.95) of
    core/feature_extractor.py; DeepLabv3 (arXiv 1706.05587), section 3.2.1.
    """

    def __init__(
        self,
        *,
        output_stride: int = 32,
        stem: str = "deep",
        strided_unit: str = "last",
        multi_grid: Sequence[int] = MULTI_GRID,
        units: Sequence[int] = RESNET101_UNITS,
        padding: Padding = "tensorflow",
        norm_eps: float = 1e-5,
    ) -> None:
        """Build the backbone with fresh weights.

        Args:
            output_stride: 8, 16 or 32.
            stem: ``"deep"``, three 3x3 convolutions to 128 channels, or ``"7x7"``, one to 64.
            strided_unit: unit of a stage with a stride of 2, ``"first"`` or ``"last"``.
            multi_grid: factors of the dilations, one for each unit of the last stage.
            units: number of units of each of the four stages, at least two if ``strided_unit`` is ``"last"``.
            padding: ``"tensorflow"`` or ``"symmetric"``; they differ only for even sides.
            norm_eps: epsilon of the batch norms.

        Raises:
            ConfigError: a value is not possible.
        """
        super().__init__()
        check_options(
            units=units,
            multi_grid=multi_grid,
            stem=stem,
            strided_unit=strided_unit,
            padding=padding,
            norm_eps=norm_eps,
        )
        if strided_unit == "last" and min(units) < 2:
            raise ConfigError(f"units {tuple(units)} is not possible; strided_unit 'last' needs at least two per stage")
        if len(multi_grid) != units[-1]:
            raise ConfigError(
                f"multi_grid {tuple(multi_grid)} is not possible; give one factor for each of the last stage's "
                f"{units[-1]} units, such as 1, 2, 4"
            )
        layers = Layers(padding, norm_eps, NORM_MOMENTUM, nn.ReLU)
        deep = stem == "deep"
        self.stem = nn.Sequential(layers.conv(3, 64, 3 if deep else 7, stride=2))
        if deep:
            self.stem.extend([layers.conv(64, 64, 3), layers.conv(64, 128, 3)])
        self.pool = SameMaxPool(padding=padding)
        self.units = nn.ModuleList()
        self._strides: list[int] = []
        channels = 128 if deep else 64
        self._nominal: list[FeatureInfo] = [FeatureInfo(channels, 2)]
        for stage, (width, count) in enumerate(zip(STAGE_CHANNELS, units, strict=True)):
            for number in range(count):
                strided = number == 0 and stage > 0 if strided_unit == "first" else number == count - 1 and stage < 3
                grid = multi_grid[number] if stage == 3 else 1
                self.units.append(Bottleneck(channels, width, stride=1 + strided, grid=grid, layers=layers))
                self._strides.append(1 + strided)
                channels = width * EXPANSION
        self._taps = stage_ends(self._strides)
        for level, index in enumerate(self._taps, start=2):
            unit = self.units[index]
            assert isinstance(unit, Bottleneck)
            self._nominal.append(FeatureInfo(unit.expand.conv.out_channels, 2**level))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        self.set_output_stride(output_stride)

    def strided_layers(self) -> Sequence[tuple[Strided, int]]:
        """Return the stem's first convolution, the pooling and the units with their nominal strides."""
        first = self.stem[0]
        assert isinstance(first, ConvNormAct)
        return list(zip((first, self.pool, *self.units), (2, 2, *self._strides), strict=True))

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _c _h _w"], ...]:
        """Map normalized images (b, 3, h, w) to the feature maps, finest first."""
        x = self.stem(x)
        features = [x]
        x = self.pool(x)
        for index, unit in enumerate(self.units):
            x = unit(x)
            if index in self._taps:
                features.append(x)
        return tuple(features)
