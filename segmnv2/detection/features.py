"""Named feature maps of a backbone, for detectors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from segmnv2.backbones.backbone import Backbone
from segmnv2.backbones.mobilenet_v2 import MobileNetV2
from segmnv2.detection.extras import EXTRA_CHANNELS, ExtraLayer
from segmnv2.errors import ConfigError
from segmnv2.nn.blocks import InvertedResidual

Maps = OrderedDict[str, Tensor]


class SsdliteFeatures(nn.Module):
    """The six maps that SSDLite looks at: one at the backbone's stride 16, its last one, and four smaller ones.

    Of MobileNetV2 the first is the expansion of the block that strides from 16 to 32 (the paper's "layer 15", 576
    channels at width 1.0), of other backbones their last map at nominal stride 16.

    Attributes:
        backbone: normalized images -> feature maps.
        extras: the layers behind it.
        out_channels: channels of the six maps.

    Source: MobileNetV2, section 6.2.
    """

    def __init__(self, backbone: Backbone, extra_channels: Sequence[int] = EXTRA_CHANNELS) -> None:
        """Put the extra layers behind a backbone.

        Args:
            backbone: with feature maps at nominal strides 16 and 32.
            extra_channels: channels of the maps behind its last one, each half as large as the one before.

        Raises:
            ConfigError: a backbone without a feature map at nominal stride 16 before its last one.
        """
        super().__init__()
        self.backbone = backbone
        self._block = _striding_block(backbone)
        tap = _last_at_16(backbone)
        self._tap = tap
        first = (
            _expansion(backbone, self._block) if self._block is not None else backbone.nominal_features[tap].channels
        )
        last = backbone.nominal_features[-1].channels
        inputs = (last, *extra_channels[:-1])
        self.extras = nn.ModuleList(ExtraLayer(i, o) for i, o in zip(inputs, extra_channels, strict=True))
        self.out_channels = [first, last, *extra_channels]

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Maps:
        """Map normalized images (b, 3, h, w) to six maps, finest first, named "0" to "5"."""
        maps = self._backbone_maps(x)
        for layer in self.extras:
            maps.append(layer(maps[-1]))
        return OrderedDict((str(index), each) for index, each in enumerate(maps))

    def _backbone_maps(self, x: Tensor) -> list[Tensor]:
        if self._block is None:
            features = self.backbone(x)
            return [features[self._tap], features[-1]]
        assert isinstance(self.backbone, MobileNetV2)
        features, expansion = self.backbone.forward_with_expansion(x, self._block)
        return [expansion, features[-1]]


class PyramidFeatures(nn.Module):
    """A feature pyramid over a backbone's maps from stride 4 on, and a pooled one above, or its last map alone.

    Attributes:
        backbone: normalized images -> feature maps.
        out_channels: channels of every map that comes out.

    Source: ``BackboneWithFPN`` of torchvision, whose pyramid it is.
    """

    def __init__(self, backbone: Backbone, *, fpn: bool = True, channels: int = 256) -> None:
        """Put a pyramid on a backbone.

        Args:
            backbone: with feature maps at nominal strides 4 to 32.
            fpn: without it the last map is all there is.
            channels: of each map of the pyramid.
        """
        super().__init__()
        self.backbone = backbone
        infos = backbone.nominal_features
        self.taps = [index for index, info in enumerate(infos) if info.stride >= 4 and _last_of(infos, index)]
        self.fpn = (
            FeaturePyramidNetwork([infos[tap].channels for tap in self.taps], channels, LastLevelMaxPool())
            if fpn
            else None
        )
        self.out_channels = channels if fpn else infos[-1].channels

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Maps:
        """Map normalized images (b, 3, h, w) to maps of ``out_channels``, finest first, "0", "1", ... and "pool"."""
        features = self.backbone(x)
        if self.fpn is None:
            return OrderedDict([("0", features[-1])])
        out: Maps = self.fpn(OrderedDict((str(index), features[tap]) for index, tap in enumerate(self.taps)))
        return out


def _last_of(infos: Sequence[object], index: int) -> bool:
    """Return whether a map is the last one of its nominal stride."""
    following = infos[index + 1 :]
    return not any(getattr(info, "stride", None) == getattr(infos[index], "stride", None) for info in following)


def _last_at_16(backbone: Backbone) -> int:
    found = [index for index, info in enumerate(backbone.nominal_features[:-1]) if info.stride == 16]
    if not found:
        strides = ", ".join(str(info.stride) for info in backbone.nominal_features)
        raise ConfigError(
            f"SSDLite needs a feature map at stride 16 and one behind it; {type(backbone).__name__} has maps at "
            f"strides {strides}: take another backbone"
        )
    return found[-1]


def _striding_block(backbone: Backbone) -> int | None:
    """Return MobileNetV2's block that strides from 16 to 32, whatever its output stride; ``None`` for others."""
    if not isinstance(backbone, MobileNetV2):
        return None
    reached = 1
    for index, (_, stride) in enumerate(backbone.strided_layers()):
        reached *= stride
        if reached == 32:
            return index - 1  # the first is the stem
    raise AssertionError("MobileNetV2 strides to 32")


def _expansion(backbone: Backbone, block: int) -> int:
    assert isinstance(backbone, MobileNetV2)
    found = backbone.blocks[block]
    assert isinstance(found, InvertedResidual)
    assert found.expand is not None
    return found.expand.conv.out_channels
