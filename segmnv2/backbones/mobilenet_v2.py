"""MobileNetV2 as a feature extractor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.backbones.backbone import ChainBackbone, FeatureInfo, check_options, stage_ends
from segmnv2.nn.blocks import InvertedResidual
from segmnv2.nn.conv import Layers, Padding, draw_truncated_normal, make_divisible
from segmnv2.nn.stride import Strided


class Stage(NamedTuple):
    """A row of the paper's Table 2: t (expansion), c (channels), n (repeats), s (stride of the first block)."""

    expansion: int
    channels: int
    repeats: int
    stride: int


STEM_CHANNELS = 32
LAST_CHANNELS = 1280
STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)
"""Source: MobileNetV2, Table 2."""


def stage_channels(width: float, channel_divisor: int = 8) -> tuple[int, ...]:
    """Return the channels of the stem and of each stage at a width multiplier."""
    return tuple(make_divisible(c * width, channel_divisor) for c in (STEM_CHANNELS, *(s.channels for s in STAGES)))


WEIGHT_STD = 0.09
NORM_MOMENTUM = 0.003  # 1 minus TensorFlow's decay of 0.997


class MobileNetV2(ChainBackbone):
    """MobileNetV2 up to the paper's "second-last feature map", the 320-channel bottleneck.

    At width 1.0, the feature maps have 16, 24, 32, 96 and 320 channels at strides 2, 4, 8, 16 and 32. The output stride
    replaces larger strides. With ``last_conv`` a sixth map follows: the 1280 channels of the classification network.

    Source: MobileNetV2, Table 2 and section 6.3; initialization (truncated normal, 0.09) and batch norm (epsilon 1e-3,
    decay 0.997) of slim/nets/mobilenet/mobilenet_v2.py; options ``bottleneck_activation`` and ``shortcut`` of Figure 6.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        output_stride: int = 32,
        channel_divisor: int = 8,
        padding: Padding = "tensorflow",
        norm_eps: float = 1e-3,
        last_conv: bool = False,
        bottleneck_activation: bool = False,
        shortcut: str = "bottleneck",
    ) -> None:
        """Build the backbone with fresh weights.

        Args:
            width: multiplier of every stage's channels; the paper uses 0.35 to 1.4.
            output_stride: 8, 16 or 32.
            channel_divisor: divisor of all rounded channel counts: 8 in the paper's models and ImageNet weights. It is
                1 in DeepLab's published models of other widths than 1.0, so dm0.5 has a stage with 12 channels.
            padding: ``"tensorflow"`` for weights from TensorFlow, ``"symmetric"`` for torchvision's and timm's.
                The two differ only on even sides.
            norm_eps: epsilon of the batch norms; 1e-3 in TensorFlow, 1e-5 in torchvision.
            last_conv: append the 1x1 convolution to 1280 channels (more at a width above 1).
            bottleneck_activation: apply ReLU6 after the projections too, so that the bottlenecks are not linear.
            shortcut: ``"bottleneck"`` adds the input of a block to its output, as in the paper. ``"expansion"`` adds
                the expansion of a block, after its ReLU6, to that of the next block. The sum is then added to the
                expansion after that. Only expansions of the same channels and nominal size are added. ``"none"`` adds
                nothing. The paper shows only curves of the last two (Figure 6b); the formulas are our interpretation.

        Raises:
            ConfigError: a value is not allowed.
        """
        super().__init__()
        check_options(
            width=width,
            channel_divisor=channel_divisor,
            padding=padding,
            norm_eps=norm_eps,
            last_conv=last_conv,
            bottleneck_activation=bottleneck_activation,
            shortcut=shortcut,
        )
        layers = Layers(padding, norm_eps, NORM_MOMENTUM)
        channels, *stage_outputs = stage_channels(width, channel_divisor)
        self.stem = layers.conv(3, channels, 3)
        self.blocks = nn.ModuleList()
        self._strides = [2]
        for stage, out in zip(STAGES, stage_outputs, strict=True):
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                self.blocks.append(
                    InvertedResidual(
                        channels,
                        out,
                        expansion=stage.expansion,
                        stride=stride,
                        layers=layers,
                        bottleneck_activation=bottleneck_activation,
                        shortcut=shortcut,
                    )
                )
                self._strides.append(stride)
                channels = out
        self.last = layers.conv(channels, make_divisible(LAST_CHANNELS * max(width, 1.0))) if last_conv else None
        self._taps = stage_ends(self._strides[1:])
        self._nominal = self._find_features()
        self._joined = self._find_joined() if shortcut == "expansion" else None
        draw_truncated_normal(self, WEIGHT_STD)
        self.set_output_stride(output_stride)

    @staticmethod
    def stage_starts() -> tuple[int, ...]:
        """Return the index of each stage's first block."""
        return tuple(sum(s.repeats for s in STAGES[:n]) for n in range(len(STAGES)))

    def _find_features(self) -> tuple[FeatureInfo, ...]:
        features = []
        for level, index in enumerate(self._taps, start=1):
            block = self.blocks[index]
            assert isinstance(block, InvertedResidual)
            features.append(FeatureInfo(block.project.conv.out_channels, 2**level))
        if self.last is not None:
            features.append(FeatureInfo(self.last.conv.out_channels, 2**level))
        return tuple(features)

    def _find_joined(self) -> frozenset[int]:
        """Return the indices of blocks whose expansion has the channels and nominal size of the previous expansion.

        Nominal sizes are compared, because the shortcuts must not depend on the output stride.
        """
        joined, previous = set(), None
        for index, block in enumerate(self.blocks):
            assert isinstance(block, InvertedResidual)
            channels = None if block.expand is None else block.expand.conv.out_channels
            if channels is not None and channels == previous and self._strides[index] == 1:  # the previous block's
                joined.add(index)
            previous = channels
        return frozenset(joined)

    def strided_layers(self) -> Sequence[tuple[Strided, int]]:
        """Return the stem's convolution and the blocks with their nominal strides."""
        return list(zip((self.stem.conv, *self.blocks), self._strides, strict=True))

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _c _h _w"], ...]:
        """Map normalized images (b, 3, h, w) to feature maps, finest first. TensorFlow's weights expect -1..1."""
        return self._run(x, None)[0]

    def forward_with_expansion(
        self, x: Float[Tensor, "b 3 h w"], block: int
    ) -> tuple[tuple[Float[Tensor, "b _c _h _w"], ...], Float[Tensor, "b _e _i _j"]]:
        """Return the feature maps and the expansion of one block, which SSDLite uses.

        Args:
            x: normalized images (b, 3, h, w).
            block: 1 to 16; block 0 has no expansion.
        """
        features, expansion = self._run(x, block)
        assert expansion is not None
        return features, expansion

    def _run(self, x: Tensor, expansion_of: int | None) -> tuple[tuple[Tensor, ...], Tensor | None]:
        features = []
        expanded: Tensor | None = None
        expansion: Tensor | None = None
        x = self.stem(x)
        for index, block in enumerate(self.blocks):
            assert isinstance(block, InvertedResidual)
            if self._joined is None and index != expansion_of:
                x = block(x)
            else:
                wide = block.widen(x)
                joins = self._joined is not None and index in self._joined
                expanded = wide + expanded if joins and expanded is not None else wide
                x = block(x, expanded)
            if index == expansion_of:
                expansion = expanded
            if index in self._taps:
                features.append(x)
        if self.last is not None:
            features.append(self.last(x))
        return tuple(features), expansion
