"""The two families of detectors: SSDLite, as in the MobileNetV2 paper's Table 6, and Faster R-CNN."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import MultiScaleRoIAlign

from segmnv2.detection.features import (
    NORM_EPS,
    NORM_MOMENTUM,
    PyramidFeatures,
    SsdliteFeatures,
    build_detection_backbone,
)
from segmnv2.errors import ConfigError, describe_value
from segmnv2.hub.resolve import takes_names
from segmnv2.nn.conv import PooledBatchNorm2d

COCO_CLASSES = 91
"""torchvision's number of classes for COCO: the background and all category ids up to 90, including gaps."""

MIN_SCALE, MAX_SCALE = 0.2, 0.95
LOWEST_SCALE = 0.1
RATIOS = (2.0, 3.0)

SIZES = (32, 64, 128, 256, 512)
ANCHOR_RATIOS = (0.5, 1.0, 2.0)


class TensorFlowBoxes(DefaultBoxGenerator):  # type: ignore[misc]
    """torchvision's default boxes, with three boxes instead of six at each position of the first map.

    The first map has a square of a tenth of the image and two rectangles (1:2, 2:1) of a fifth. Every other map has
    squares of its scale and of the mean with the next scale, and rectangles of 1:2, 2:1, 1:3 and 3:1.

    Source: ``create_ssd_anchors`` of object_detection/anchor_generators/multiple_grid_anchor_generator.py,
    ``reduce_boxes_in_lowest_layer``.
    """

    def __init__(self, maps: int = 6) -> None:
        """Define the boxes of this number of maps, finest first."""
        super().__init__([[RATIOS[0]], *([list(RATIOS)] * (maps - 1))], MIN_SCALE, MAX_SCALE)
        long, short = MIN_SCALE * RATIOS[0] ** 0.5, MIN_SCALE / RATIOS[0] ** 0.5
        pairs = [[LOWEST_SCALE, LOWEST_SCALE], [long, short], [short, long]]
        self._wh_pairs[0] = self._wh_pairs[0].new_tensor(pairs)

    def num_anchors_per_location(self) -> list[int]:
        """Return the number of boxes at each position, for each map."""
        return [len(pairs) for pairs in self._wh_pairs]


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
        backbone: a name of :data:`segmnv2.backbones.backbone.BACKBONES` with maps at strides 16 and 32.
        num_classes: number of classes, including the background, which is class 0.
        size: (height, width) in pixels to which images are resized.
        output_stride: 8, 16 or 32, of the backbone's last map; below 32 the maps are finer and slower.
        backbone_weights: a file of which the backbone is loaded, such as an ImageNet one, with its normalization.
        backbone_options: arguments of the backbone, such as ``{"width": 0.5}``.
        options: options of torchvision's ``SSD``, such as ``score_thresh``.

    Returns:
        torchvision's ``SSD`` in training mode. It takes a list of float RGB images (3, h, w) in 0..1. In training mode
        it also takes targets and returns a dict of losses. A target is a dict of ``boxes``, float (n, 4), x1, y1, x2,
        y2 in pixels, and ``labels``, int64 (n,). In evaluation mode it returns a dict with ``boxes``, ``labels`` and
        ``scores`` for each image.

    Raises:
        ConfigError: the backbone or an option is unknown, or the backbone does not have the required maps.
        WeightsError: the file is missing, damaged or does not fit.

    Source: MobileNetV2, section 6.2; object_detection/samples/configs/ssdlite_mobilenet_v2_coco.config.
    """
    network, statistics = build_detection_backbone(
        backbone,
        backbone_options or {},
        num_classes=num_classes,
        output_stride=output_stride,
        weights=backbone_weights,
        last_conv=True,
    )
    features = SsdliteFeatures(network)
    boxes = TensorFlowBoxes(len(features.out_channels))
    norm = partial(PooledBatchNorm2d, eps=NORM_EPS, momentum=NORM_MOMENTUM)
    head = SSDLiteHead(features.out_channels, boxes.num_anchors_per_location(), num_classes, norm)
    usual = {"score_thresh": 0.001, "nms_thresh": 0.55, "detections_per_img": 300, "topk_candidates": 300}
    return SSD(features, boxes, size, num_classes, head=head, **statistics, **{**usual, **options})


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
        backbone: a name of :data:`segmnv2.backbones.backbone.BACKBONES`.
        fpn: whether to use a feature pyramid of the maps from stride 4 on; ``False`` uses only the last map.
        num_classes: number of classes, including the background, which is class 0.
        output_stride: 8, 16 or 32, of the backbone's last map.
        backbone_weights: a file of which the backbone is loaded, such as an ImageNet one, with its normalization.
        backbone_options: arguments of the backbone, such as ``{"width": 0.5}``.
        options: options of torchvision's ``FasterRCNN``, such as ``min_size``.

    Returns:
        torchvision's ``FasterRCNN`` in training mode; images and targets as for :func:`segmnv2.detection.ssdlite`.

    Raises:
        ConfigError: the backbone or an option is unknown.
        WeightsError: the file is missing, damaged or does not fit.
    """
    network, statistics = build_detection_backbone(
        backbone,
        backbone_options or {},
        num_classes=num_classes,
        output_stride=output_stride,
        weights=backbone_weights,
    )
    features = PyramidFeatures(network, fpn=fpn)
    levels = len(features.taps) + 1 if fpn else 1
    sizes = tuple((size,) for size in SIZES[:levels]) if fpn else (SIZES,)
    names = [str(index) for index in range(len(features.taps))] if fpn else ["0"]
    parts = {
        "rpn_anchor_generator": AnchorGenerator(sizes, (ANCHOR_RATIOS,) * len(sizes)),
        "box_roi_pool": MultiScaleRoIAlign(names, output_size=7, sampling_ratio=2),
    }
    return FasterRCNN(features, num_classes, **statistics, **{**parts, **options})


@dataclass(frozen=True)
class Family:
    """A kind of detector.

    Attributes:
        build: function of this package that builds it.
        network: torchvision's class.
        size: default input size in pixels: the side, or the shorter side.
        predictor: prefix of the names of tensors that belong to the classes.
    """

    build: Callable[..., nn.Module]
    network: type[nn.Module]
    size: int
    predictor: str


FAMILIES = {
    "faster_rcnn": Family(faster_rcnn, FasterRCNN, 800, "roi_heads.box_predictor."),
    "ssdlite": Family(ssdlite, SSD, 320, "head.classification_head."),
}
"""Families of detectors by the names that :func:`segmnv2.detection.detector.create_detector` takes."""


def check_options(detector: str, size: int, options: Mapping[str, Any]) -> None:
    """Refuse options of torchvision's class with a wrong type or value, and a size above ``max_size``."""
    parameters = inspect.signature(FAMILIES[detector].network).parameters
    for name, value in options.items():
        default = True if name == "fpn" else parameters[name].default
        if type(value) is not type(default) and not (isinstance(default, float) and type(value) is int):
            kind = {bool: "true or false", int: "an integer"}.get(type(default), "a number")
            raise ConfigError(f"{detector} takes {kind} as {name}, not {describe_value(value)}; default: {default}")
        if name.endswith("thresh") and not 0 <= value <= 1:
            raise ConfigError(f"{detector} takes 0 to 1 as {name}, not {value}; default: {default}")
        if name.endswith("fraction") and not 0 < value <= 1:
            raise ConfigError(f"{detector} takes above 0 up to 1 as {name}, not {value}; default: {default}")
        if type(default) is int and value < 1:
            raise ConfigError(f"{detector} takes 1 or more as {name}, not {value}; default: {default}")
    longest = options.get("max_size", parameters["max_size"].default) if "max_size" in parameters else size
    if type(size) is int and size > longest:  # torchvision would scale images down to max_size without a message
        raise ConfigError(
            f"size {size} is above max_size {longest}, the bound of the longer side; give the option max_size too, for "
            f"example {size * 5 // 3}"
        )


def detector_options(detector: str) -> tuple[str, ...]:
    """Return the names of the numeric options of a detector, such as ``score_thresh``."""
    parameters = inspect.signature(FAMILIES[detector].network).parameters
    numbers = [name for name, parameter in parameters.items() if isinstance(parameter.default, int | float)]
    own = ["fpn"] if detector == "faster_rcnn" else []
    return tuple(own + [name for name in numbers if name not in ("size", "min_size")])
