"""ShuffleNetV2, torchvision's, as a feature extractor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.backbones.backbone import ChainBackbone, FeatureInfo
from segmnv2.backbones.backbone_options import check_options
from segmnv2.errors import ConfigError
from segmnv2.nn.stride import Strided

NAMES = {
    0.5: "shufflenet_v2_x0_5",
    1.0: "shufflenet_v2_x1_0",
    1.5: "shufflenet_v2_x1_5",
    2.0: "shufflenet_v2_x2_0",
}
"""Width multiplier -> name in ``torchvision.models``."""


class ShuffleNetV2(ChainBackbone):
    """torchvision's ShuffleNetV2, its depthwise convolutions dilated where they no longer stride.

    Feature maps, at width 1.0: 24 channels at stride 2 and, pooled, at 4, then 116 at 8, 232 at 16, 464 at 32 (the last
    two, or last, at the output stride when that is smaller). With ``last_conv`` a sixth follows: the 1024 channels of
    the classification network.

    Tensors have torchvision's names, so its ImageNet weights load unchanged, less ``fc`` (and ``conv5`` without
    ``last_conv``).

    Source: ShuffleNetV2 (arXiv 1807.11164), Table 5; ``torchvision.models.shufflenetv2``.
    """

    def __init__(self, *, width: float = 1.0, output_stride: int = 32, last_conv: bool = False) -> None:
        """Build the network with fresh weights.

        Args:
            width: 0.5, 1.0, 1.5 or 2.0.
            output_stride: 8, 16 or 32.
            last_conv: append the 1x1 convolution to 1024 channels (2048 at width 2.0).

        Raises:
            ConfigError: a value outside the stated ones.
        """
        super().__init__()
        check_options(width=width, last_conv=last_conv)
        if width not in NAMES:
            allowed = ", ".join(map(str, NAMES))
            raise ConfigError(f"width {width!r} is not possible; torchvision's ShuffleNetV2 has {allowed}")
        from torchvision import models  # here, as only this network needs it

        network = models.get_model(NAMES[width], weights=None)
        self.conv1 = network.conv1
        self.maxpool = network.maxpool
        self.stage2 = network.stage2
        self.stage3 = network.stage3
        self.stage4 = network.stage4
        self.conv5 = network.conv5 if last_conv else None
        # Each step ends in a batch norm over its output's channels, or over half of them: ask the layers themselves.
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
    """Layers of torchvision with 3x3 windows that change their rate together."""

    layers: Sequence[nn.Conv2d | nn.MaxPool2d]

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change stride and dilation, and pad so that output samples stay in their places."""
        for layer in self.layers:
            layer.stride = (stride, stride)
            layer.dilation = layer.padding = (dilation, dilation)
