"""DeepLabv3+'s head: DeepLabv3's head, refined with features at stride 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.errors import ConfigError
from segmnv2.heads.deeplab_v3 import LAYERS, DeepLabV3Head
from segmnv2.heads.head import HeadKind
from segmnv2.nn.stride import resize_bilinear

LOW_LEVEL_STRIDE = 4
LOW_LEVEL_CHANNELS = 48
MOST_REFINEMENTS = 8


class DeepLabV3PlusHead(DeepLabV3Head):
    """DeepLabv3's branches and projection, then a decoder with low-level features and 3x3 convolutions.

    The low-level features are the backbone's last map at stride 4, projected to 48 channels and concatenated. The
    logits have stride 4 at every output stride.

    Source: DeepLabv3+ (Chen et al. 2018, arXiv 1802.02611), section 3.1 and Table 1; ``refine_by_decoder`` of
    tensorflow/models research/deeplab/model.py.
    """

    options: ClassVar[tuple[str, ...]] = ("refinements", "separable", "align_corners")

    def __init__(
        self,
        low_level_channels: int,
        in_channels: int,
        num_classes: int,
        *,
        low_level_index: int = 1,
        refinements: int = 2,
        separable: bool = False,
        align_corners: bool = True,
        **context: Any,
    ) -> None:
        """Build the head with fresh weights.

        Args:
            low_level_channels: channels of the backbone's feature map at stride 4.
            in_channels: channels of the backbone's last feature map.
            num_classes: number of logits.
            low_level_index: index of the feature map at stride 4 among the backbone's feature maps.
            refinements: number of the decoder's 3x3 convolutions.
            separable: whether these are depthwise separable: 3x3 depthwise and 1x1, batch norm and ReLU after both.
            align_corners: whether the projection is enlarged with aligned corners, as in TensorFlow. ``False`` for
                weights of PyTorch implementations that do not align corners.
            context: keyword arguments of :class:`DeepLabV3Head`; the decoder has as many channels as its projection.

        Raises:
            ConfigError: the output stride is not 8, 16 or 32, or the number of refinements is not possible.
        """
        if type(refinements) is not int or not 1 <= refinements <= MOST_REFINEMENTS:
            raise ConfigError(f"refinements {refinements!r} is not possible; give 1 to {MOST_REFINEMENTS}")
        super().__init__(in_channels, num_classes, **context)
        channels = self.logits.in_channels
        self.reads = (low_level_index, -1)
        self.in_channels = (low_level_channels, in_channels)
        self._align_corners = align_corners
        self.low_level = LAYERS.conv(low_level_channels, LOW_LEVEL_CHANNELS)
        self.decoder = nn.Sequential()
        width = channels + LOW_LEVEL_CHANNELS
        for _ in range(refinements):
            if separable:
                self.decoder.append(LAYERS.conv(width, width, 3, groups=width))
            self.decoder.append(LAYERS.conv(width, channels, 1 if separable else 3))
            width = channels
        self._initialize()

    @classmethod
    def build(
        cls, channels: Sequence[int], strides: Sequence[int], num_classes: int, *, output_stride: int, **options: Any
    ) -> DeepLabV3PlusHead:
        """Build the head for a backbone; it reads the last feature map at stride 4 and the last feature map.

        Raises:
            ConfigError: no feature map has stride 4, or the number of refinements is not possible.
        """
        fitting = [index for index, stride in enumerate(strides) if stride == LOW_LEVEL_STRIDE]
        if not fitting:
            raise ConfigError(
                f"DeepLabv3+ reads features at stride 4, and the backbone has {', '.join(map(str, strides))}; "
                "use another backbone, or DeepLabv3"
            )
        low = fitting[-1]
        return cls(
            channels[low], channels[-1], num_classes, output_stride=output_stride, low_level_index=low, **options
        )

    @property
    def logits_stride(self) -> int:
        """Pixels between two logits: 4."""
        return LOW_LEVEL_STRIDE

    @property
    def align_corners(self) -> bool:
        """Whether the projection is enlarged with aligned corners; read-only, because model files depend on it."""
        return self._align_corners

    def forward(self, features: Sequence[Float[Tensor, "b _c _h _w"]]) -> Float[Tensor, "b k i j"]:
        """Map two feature maps, the one at stride 4 and the last, to logits at stride 4."""
        low_level = self.low_level(features[0])
        size = (low_level.shape[2], low_level.shape[3])
        context = self.context(features[1])
        if self.align_corners:
            context = resize_bilinear(context, size)
        else:
            context = F.interpolate(context, size, mode="bilinear", align_corners=False)
        out: Tensor = self.logits(self.decoder(torch.cat([context, low_level], dim=1)))
        return out


DEEPLAB_V3_PLUS = HeadKind(DeepLabV3PlusHead, {"aspp": False})
DEEPLAB_V3_PLUS_ASPP = HeadKind(DeepLabV3PlusHead, {"aspp": True})
