"""The backbones in torchvision's detectors: its API, losses, boxes and transforms, with this library's features."""

from __future__ import annotations

from segmnv2.detection.faster_rcnn import faster_rcnn
from segmnv2.detection.ssdlite import ssdlite

__all__ = ["faster_rcnn", "ssdlite"]
