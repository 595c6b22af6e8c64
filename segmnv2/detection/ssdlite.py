"""SSDLite: single-shot detection with separable convolutions, as in the MobileNetV2 paper's Table 6."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead

from segmnv2.detection.box_drawing import TensorFlowBoxes
from segmnv2.detection.detector_backbone import build_detection_backbone, image_statistics
from segmnv2.detection.extras import NORM_EPS, NORM_MOMENTUM
from segmnv2.detection.features import SsdliteFeatures
from segmnv2.errors import ConfigError
from segmnv2.hub.resolve import takes_names
from segmnv2.nn.conv import PooledBatchNorm2d

COCO_CLASSES = 91
"""torchvision's number for COCO: its category ids, with gaps, and the background."""


@takes_names("backbone_weights")
def ssdlite(
    backbone: str = "mobilenet_v2",
    *,
    num_classes: int = COCO_CLASSES,
    size: tuple[int, int] = (320, 320),
    output_stride: int = 32,
    backbone_weights: str | Path | None = None,
    backbone_options: dict[str, Any] | None = None,
    **options: Any,
) -> SSD:
    """Build SSDLite on a backbone of this library.

    Args:
        backbone: a name of :data:`segmnv2.backbones.registry.BACKBONES` with maps at strides 16 and 32.
        num_classes: with the background, which is class 0.
        size: (height, width) in pixels that images are resized to.
        output_stride: 8, 16 or 32, of the backbone's last map; below 32 the maps are finer and slower.
        backbone_weights: a file of which the backbone is taken, as the ImageNet one; its normalization is taken too.
        backbone_options: arguments of the backbone, as ``{"width": 0.5}``.
        options: of torchvision's ``SSD``, as ``score_thresh``.

    Returns:
        torchvision's ``SSD`` in training mode: a list of float RGB images (3, h, w) in 0..1 in; with targets (``boxes``
        float (n, 4) as x1, y1, x2, y2 in pixels, ``labels`` int64 (n,)) a dict of losses out, in evaluation mode a
        dict with ``boxes``, ``labels`` and ``scores`` for each image.

    Raises:
        ConfigError: an unknown backbone or option, or one without the maps that are needed.
        WeightsError: a file that is missing, damaged or does not fit.

    Source: MobileNetV2, section 6.2; object_detection/samples/configs/ssdlite_mobilenet_v2_coco.config.
    """
    if num_classes < 2:
        raise ConfigError(f"num_classes {num_classes} is not possible; count the background too, as 91 for COCO")
    network, normalization = build_detection_backbone(
        backbone, backbone_options or {}, output_stride=output_stride, weights=backbone_weights, last_conv=True
    )
    features = SsdliteFeatures(network)
    boxes = TensorFlowBoxes(len(features.out_channels))
    norm = partial(PooledBatchNorm2d, eps=NORM_EPS, momentum=NORM_MOMENTUM)
    head = SSDLiteHead(features.out_channels, boxes.num_anchors_per_location(), num_classes, norm)
    usual = {"score_thresh": 0.001, "nms_thresh": 0.55, "detections_per_img": 300, "topk_candidates": 300}
    return SSD(features, boxes, size, num_classes, head=head, **image_statistics(normalization), **{**usual, **options})
