"""torchvision's detectors on the backbones of this library."""

from __future__ import annotations

from segmnv2.detection.detector import Detector, create_detector, load_detector, save_detector
from segmnv2.detection.families import faster_rcnn, ssdlite
from segmnv2.detection.scripting import script_detector

__all__ = [
    "Detector",
    "create_detector",
    "faster_rcnn",
    "load_detector",
    "save_detector",
    "script_detector",
    "ssdlite",
]
