"""Mobile semantic segmentation: DeepLabv3 on MobileNetV2, the paper's own network.

Importing the package is fast: each public name loads what it needs when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from segmnv2.telemetry import forbid_telemetry

if TYPE_CHECKING:
    from segmnv2.backbones.registry import create_backbone
    from segmnv2.conversion.convert import import_checkpoint
    from segmnv2.errors import ConfigError, DatasetError, MediaError, SegmnError, WeightsError
    from segmnv2.hub.publish import from_pretrained, push_to_hub, save_pretrained
    from segmnv2.hub.resolve import (
        create_classifier,
        create_model,
        load_classifier,
        load_model,
        load_weights,
        resolve_weights,
    )
    from segmnv2.inference.predictor import Predictor
    from segmnv2.inference.scores import Prediction
    from segmnv2.labels import VOC_LABELS, LabelSet
    from segmnv2.models.catalog import list_models
    from segmnv2.models.classifier import Classifier, save_classifier
    from segmnv2.models.model_file import save_model
    from segmnv2.models.segmenter import Segmenter
    from segmnv2.nn.block_family import create_block

__version__ = "0.1.0.dev0"

forbid_telemetry()

_HOMES = {
    "Classifier": "models.classifier",
    "ConfigError": "errors",
    "DatasetError": "errors",
    "LabelSet": "labels",
    "MediaError": "errors",
    "Prediction": "inference.scores",
    "Predictor": "inference.predictor",
    "SegmnError": "errors",
    "Segmenter": "models.segmenter",
    "VOC_LABELS": "labels",
    "WeightsError": "errors",
    "create_backbone": "backbones.registry",
    "create_block": "nn.block_family",
    "create_classifier": "hub.resolve",
    "create_model": "hub.resolve",
    "from_pretrained": "hub.publish",
    "import_checkpoint": "conversion.convert",
    "list_models": "models.catalog",
    "load_classifier": "hub.resolve",
    "load_model": "hub.resolve",
    "load_weights": "hub.resolve",
    "push_to_hub": "hub.publish",
    "resolve_weights": "hub.resolve",
    "save_classifier": "models.classifier",
    "save_model": "models.model_file",
    "save_pretrained": "hub.publish",
}

__all__ = [
    "VOC_LABELS",
    "Classifier",
    "ConfigError",
    "DatasetError",
    "LabelSet",
    "MediaError",
    "Prediction",
    "Predictor",
    "Segmenter",
    "SegmnError",
    "WeightsError",
    "__version__",
    "create_backbone",
    "create_block",
    "create_classifier",
    "create_model",
    "from_pretrained",
    "import_checkpoint",
    "list_models",
    "load_classifier",
    "load_model",
    "load_weights",
    "push_to_hub",
    "resolve_weights",
    "save_classifier",
    "save_model",
    "save_pretrained",
]


_PACKAGES = ("detection",)
"""Packages that are reached as attributes of this one."""


def __getattr__(name: str) -> Any:
    """Load a public name from its module at first use."""
    if name in _PACKAGES:
        return importlib.import_module(f"segmnv2.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'segmnv2' has no attribute '{name}'")
    return getattr(importlib.import_module(f"segmnv2.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*__all__, *_PACKAGES])
