"""A backbone for a detector: built by name, with ImageNet's weights and the normalization that they need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segmnv2.backbones.backbone import Backbone
from segmnv2.backbones.registry import create_backbone
from segmnv2.models.classifier import has_last_conv
from segmnv2.models.model_file import load_backbone_weights
from segmnv2.models.pixels import Normalization
from segmnv2.models.zoo import usual_normalization

PIXEL_RANGE = 255.0


def build_detection_backbone(
    name: str,
    options: Mapping[str, Any],
    *,
    output_stride: int,
    weights: str | Path | None,
    last_conv: bool = False,
) -> tuple[Backbone, Normalization]:
    """Return a backbone and how its images are normalized.

    Args:
        name: a name of :data:`segmnv2.backbones.registry.BACKBONES`.
        options: further arguments of the backbone, as ``{"width": 0.5}``.
        output_stride: 8, 16 or 32, of the last feature map.
        weights: a file of which the backbone is taken, as ``segmnv2 import`` or ``segmnv2 train`` writes it.
        last_conv: whether a network that has a last 1x1 convolution in classification keeps it.

    Raises:
        ConfigError: an unknown name or option, or a value that the backbone refuses.
        WeightsError: the file is missing, damaged or does not fit.
    """
    if last_conv and has_last_conv(name):
        options = {**options, "last_conv": True}
    backbone = create_backbone(name, output_stride=output_stride, **options)
    if weights is None:
        return backbone, usual_normalization(options)
    return backbone, load_backbone_weights(backbone, name, options, weights)


def image_statistics(normalization: Normalization) -> dict[str, list[float]]:
    """Return mean and deviation as torchvision's detectors need them: of pixels in 0..1."""
    return {
        "image_mean": [value / PIXEL_RANGE for value in normalization.mean],
        "image_std": [value / PIXEL_RANGE for value in normalization.std],
    }
