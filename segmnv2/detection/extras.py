"""SSDLite's layers behind the backbone: ever smaller maps for ever larger boxes."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from segmnv2.nn.conv import ConvNormAct, PooledBatchNorm2d, SameConv2d

EXTRA_CHANNELS = (512, 256, 256, 128)
NORM_EPS, NORM_MOMENTUM = 1e-3, 0.03
WEIGHT_STD = 0.03
"""Source: object_detection/samples/configs/ssdlite_mobilenet_v2_coco.config; the momentum is torchvision's."""


class ExtraLayer(nn.Sequential):
    """Narrow by 1x1 to half the output's channels, filter depthwise by 3x3 at stride 2, widen by 1x1.

    Maps (b, c, h, w) to (b, out_channels, ceil(h / 2), ceil(w / 2)).

    Source: ``multi_resolution_feature_maps`` of object_detection/models/feature_map_generators.py, ``use_depthwise``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Build the layer with fresh weights (normal, deviation 0.03).

        Args:
            in_channels: channels of the input.
            out_channels: channels of the output.
        """
        super().__init__(*_layers(in_channels, out_channels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=WEIGHT_STD)


def _layers(in_channels: int, out_channels: int) -> Iterator[ConvNormAct]:
    narrow = out_channels // 2
    for inputs, outputs, kernel, groups in (
        (in_channels, narrow, 1, 1),
        (narrow, narrow, 3, narrow),
        (narrow, out_channels, 1, 1),
    ):
        yield ConvNormAct(
            SameConv2d(inputs, outputs, kernel, stride=2 if kernel == 3 else 1, groups=groups),
            PooledBatchNorm2d(outputs, eps=NORM_EPS, momentum=NORM_MOMENTUM),  # the last map may be one value
            nn.ReLU6(inplace=True),
        )
