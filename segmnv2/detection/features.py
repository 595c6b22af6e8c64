"""Named feature maps of a backbone, for detectors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from itertools import accumulate, pairwise, starmap
from operator import mul
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from segmnv2.backbones.backbone import Backbone, create_backbone
from segmnv2.backbones.mobilenet_v2 import MobileNetV2
from segmnv2.errors import ConfigError
from segmnv2.models.classifier import has_last_conv
from segmnv2.models.model_file import load_backbone_weights
from segmnv2.models.pixels import Normalization
from segmnv2.models.zoo import usual_normalization
from segmnv2.nn.blocks import InvertedResidual
from segmnv2.nn.conv import ConvNormAct, PooledBatchNorm2d, SameConv2d

EXTRA_CHANNELS = (512, 256, 256, 128)

NORM_EPS, NORM_MOMENTUM = 1e-3, 0.03

WEIGHT_STD = 0.03
"""Source: object_detection/samples/configs/ssdlite_mobilenet_v2_coco.config; the momentum is torchvision's."""

PIXEL_RANGE = 255.0


def build_detection_backbone(
    name: str,
    options: Mapping[str, Any],
    *,
    num_classes: int,
    output_stride: int,
    weights: str | Path | None,
    last_conv: bool = False,
) -> tuple[Backbone, dict[str, list[float]]]:
    """Return a backbone and its :func:`image_statistics`; arguments are as in :func:`segmnv2.detection.faster_rcnn`.

    ``last_conv`` adds the last 1x1 convolution of backbones that have one for classification.

    Raises:
        ConfigError: a name or option is unknown, or a value is not possible.
        WeightsError: the file is missing, damaged or does not fit.
    """
    if num_classes < 2:
        raise ConfigError(f"num_classes {num_classes} is not possible; count the background too, such as 91 for COCO")
    if last_conv and has_last_conv(name):
        options = {**options, "last_conv": True}
    backbone = create_backbone(name, output_stride=output_stride, **options)
    if weights is None:
        return backbone, image_statistics(usual_normalization(options))
    return backbone, image_statistics(load_backbone_weights(backbone, name, options, weights))


def image_statistics(normalization: Normalization) -> dict[str, list[float]]:
    """Return mean and standard deviation of pixels in 0..1, as torchvision's detectors take them."""
    return {
        "image_mean": [value / PIXEL_RANGE for value in normalization.mean],
        "image_std": [value / PIXEL_RANGE for value in normalization.std],
    }


class ExtraLayer(nn.Sequential):
    """1x1 to half of the output's channels, depthwise 3x3 at stride 2, 1x1 to the output's channels.

    Maps (b, c, h, w) to (b, out_channels, ceil(h / 2), ceil(w / 2)). Fresh weights are normal with deviation 0.03.

    Source: ``multi_resolution_feature_maps`` of object_detection/models/feature_map_generators.py, ``use_depthwise``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Build the layer."""
        narrow = out_channels // 2
        parts = ((in_channels, narrow, 1, 1, 1), (narrow, narrow, 3, 2, narrow), (narrow, out_channels, 1, 1, 1))
        super().__init__()
        for inputs, outputs, kernel, stride, groups in parts:
            conv = SameConv2d(inputs, outputs, kernel, stride=stride, groups=groups)
            norm = PooledBatchNorm2d(outputs, eps=NORM_EPS, momentum=NORM_MOMENTUM)  # the last map may have one value
            self.append(ConvNormAct(conv, norm, nn.ReLU6(inplace=True)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=WEIGHT_STD)


Maps = OrderedDict[str, Tensor]


class SsdliteFeatures(nn.Module):
    """The six maps of SSDLite: the backbone's map at stride 16, its last map, and four smaller ones.

    For MobileNetV2, the first map is the expansion of the block from stride 16 to 32: the paper's "layer 15". It has
    576 channels at width 1.0. For other backbones it is the last map at nominal stride 16.

    Attributes:
        backbone: normalized images -> feature maps.
        extras: the layers after the backbone.
        out_channels: channels of the six maps.

    Source: MobileNetV2, section 6.2.
    """

    def __init__(self, backbone: Backbone) -> None:
        """Add the extra layers to a backbone; each halves the sides of the map before.

        Raises:
            ConfigError: the backbone has no feature map at nominal stride 16 before its last one.
        """
        super().__init__()
        self.backbone = backbone
        self._tap, infos = _last_at_16(backbone), backbone.nominal_features
        self._block, first = 0, infos[self._tap].channels  # only MobileNetV2 uses the block
        if isinstance(backbone, MobileNetV2):
            self._block = _striding_block(backbone)
            block = backbone.blocks[self._block]
            assert isinstance(block, InvertedResidual)
            assert block.expand is not None
            first = block.expand.conv.out_channels
        self.out_channels = [first, infos[-1].channels, *EXTRA_CHANNELS]
        self.extras = nn.ModuleList(starmap(ExtraLayer, pairwise(self.out_channels[1:])))

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Maps:
        """Map normalized images (b, 3, h, w) to six maps, finest first, named "0" to "5"."""
        if isinstance(self.backbone, MobileNetV2):
            features, first = self.backbone.forward_with_expansion(x, self._block)
        else:
            features = self.backbone(x)
            first = features[self._tap]
        maps = [first, features[-1]]
        for layer in self.extras:
            maps.append(layer(maps[-1]))
        return OrderedDict((str(index), feature) for index, feature in enumerate(maps))


class PyramidFeatures(nn.Module):
    """A feature pyramid of a backbone's maps from stride 4 on, with a pooled map, or only the backbone's last map.

    Attributes:
        backbone: normalized images -> feature maps.
        out_channels: channels of all resulting maps.

    Source: ``BackboneWithFPN`` of torchvision, whose pyramid it is.
    """

    def __init__(self, backbone: Backbone, *, fpn: bool = True, channels: int = 256) -> None:
        """Add a pyramid of maps with these channels to a backbone; without ``fpn`` only the last map is returned."""
        super().__init__()
        self.backbone = backbone
        infos = backbone.nominal_features
        last = {info.stride: index for index, info in enumerate(infos)}
        self.taps = [index for index, info in enumerate(infos) if info.stride >= 4 and last[info.stride] == index]
        inputs = [infos[tap].channels for tap in self.taps]
        self.fpn = FeaturePyramidNetwork(inputs, channels, LastLevelMaxPool()) if fpn else None
        self.out_channels = channels if fpn else infos[-1].channels

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Maps:
        """Map normalized images (b, 3, h, w) to maps of ``out_channels``, finest first, "0", "1", ... and "pool"."""
        features = self.backbone(x)
        if self.fpn is None:
            return OrderedDict([("0", features[-1])])
        out: Maps = self.fpn(OrderedDict((str(index), features[tap]) for index, tap in enumerate(self.taps)))
        return out


def _last_at_16(backbone: Backbone) -> int:
    indices = [index for index, info in enumerate(backbone.nominal_features[:-1]) if info.stride == 16]
    if not indices:
        strides = ", ".join(str(info.stride) for info in backbone.nominal_features)
        raise ConfigError(
            f"SSDLite needs a feature map at stride 16 and a later one; {type(backbone).__name__} has maps at "
            f"strides {strides}: use another backbone"
        )
    return indices[-1]


def _striding_block(backbone: MobileNetV2) -> int:
    """Return the index of the block from nominal stride 16 to 32."""
    strides = accumulate((stride for _, stride in backbone.strided_layers()), mul)
    return list(strides).index(32) - 1  # the first layer is the stem
