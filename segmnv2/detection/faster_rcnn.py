"""Faster R-CNN on this library's backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from segmnv2.detection.detector_backbone import build_detection_backbone, image_statistics
from segmnv2.detection.features import PyramidFeatures
from segmnv2.detection.ssdlite import COCO_CLASSES
from segmnv2.errors import ConfigError
from segmnv2.hub.resolve import takes_names

SIZES = (32, 64, 128, 256, 512)
RATIOS = (0.5, 1.0, 2.0)


@takes_names("backbone_weights")
def faster_rcnn(
    backbone: str = "mobilenet_v2",
    *,
    fpn: bool = True,
    num_classes: int = COCO_CLASSES,
    output_stride: int = 32,
    backbone_weights: str | Path | None = None,
    backbone_options: dict[str, Any] | None = None,
    **options: Any,
) -> FasterRCNN:
    """Build Faster R-CNN on a backbone of this library.

    Args:
        backbone: a name of :data:`segmnv2.backbones.registry.BACKBONES`.
        fpn: a feature pyramid over the maps from stride 4 on; without it, the last map alone.
        num_classes: with the background, which is class 0.
        output_stride: 8, 16 or 32, of the backbone's last map.
        backbone_weights: a file of which the backbone is taken, as the ImageNet one; its normalization is taken too.
        backbone_options: arguments of the backbone, as ``{"width": 0.5}``.
        options: of torchvision's ``FasterRCNN``, as ``min_size``.

    Returns:
        torchvision's ``FasterRCNN`` in training mode; images and targets as for :func:`segmnv2.detection.ssdlite`.

    Raises:
        ConfigError: an unknown backbone or option.
        WeightsError: a file that is missing, damaged or does not fit.
    """
    if num_classes < 2:
        raise ConfigError(f"num_classes {num_classes} is not possible; count the background too, as 91 for COCO")
    network, normalization = build_detection_backbone(
        backbone, backbone_options or {}, output_stride=output_stride, weights=backbone_weights
    )
    features = PyramidFeatures(network, fpn=fpn)
    levels = len(features.taps) + 1 if fpn else 1
    sizes = tuple((size,) for size in SIZES[:levels]) if fpn else (SIZES,)
    names = [str(index) for index in range(len(features.taps))] if fpn else ["0"]
    parts = {
        "rpn_anchor_generator": AnchorGenerator(sizes, (RATIOS,) * len(sizes)),
        "box_roi_pool": MultiScaleRoIAlign(names, output_size=7, sampling_ratio=2),
    }
    return FasterRCNN(features, num_classes, **image_statistics(normalization), **{**parts, **options})
