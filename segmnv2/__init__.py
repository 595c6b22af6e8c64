"""Semantic segmentation for mobile devices: DeepLabv3 on MobileNetV2.

The import of the package is fast, because each public name is only loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segmnv2.lazy_registry import Registry
from segmnv2.telemetry import forbid_telemetry

if TYPE_CHECKING:
    from segmnv2.backbones.backbone import create_backbone
    from segmnv2.conversion.convert import import_checkpoint
    from segmnv2.errors import ConfigError, DatasetError, MediaError, SegmnError, WeightsError
    from segmnv2.evaluation.segmenters import evaluate
    from segmnv2.hub.by_name import (
        create_classifier,
        create_model,
        from_pretrained,
        load_classifier,
        load_model,
        load_weights,
    )
    from segmnv2.hub.publish import push_to_hub, save_pretrained
    from segmnv2.hub.resolve import resolve_weights
    from segmnv2.inference.options import InferenceOptions
    from segmnv2.inference.prediction import Prediction
    from segmnv2.inference.predictor import Predictor
    from segmnv2.labels import VOC_LABELS, LabelSet
    from segmnv2.models.classifier import Classifier, save_classifier
    from segmnv2.models.model_file import save_model
    from segmnv2.models.segmenter import Segmenter, list_models
    from segmnv2.nn.blocks import create_block

__version__ = "0.1.0.dev0"

forbid_telemetry()

_PUBLIC: Registry[Any] = Registry(
    "segmnv2",
    {
        "Classifier": "models.classifier:Classifier",
        "ConfigError": "errors:ConfigError",
        "DatasetError": "errors:DatasetError",
        "InferenceOptions": "inference.options:InferenceOptions",
        "LabelSet": "labels:LabelSet",
        "MediaError": "errors:MediaError",
        "Prediction": "inference.prediction:Prediction",
        "Predictor": "inference.predictor:Predictor",
        "SegmnError": "errors:SegmnError",
        "Segmenter": "models.segmenter:Segmenter",
        "VOC_LABELS": "labels:VOC_LABELS",
        "WeightsError": "errors:WeightsError",
        "create_backbone": "backbones.backbone:create_backbone",
        "create_block": "nn.blocks:create_block",
        "create_classifier": "hub.by_name:create_classifier",
        "create_model": "hub.by_name:create_model",
        "evaluate": "evaluation.segmenters:evaluate",
        "from_pretrained": "hub.by_name:from_pretrained",
        "import_checkpoint": "conversion.convert:import_checkpoint",
        "list_models": "models.segmenter:list_models",
        "load_classifier": "hub.by_name:load_classifier",
        "load_model": "hub.by_name:load_model",
        "load_weights": "hub.by_name:load_weights",
        "push_to_hub": "hub.publish:push_to_hub",
        "resolve_weights": "hub.resolve:resolve_weights",
        "save_classifier": "models.classifier:save_classifier",
        "save_model": "models.model_file:save_model",
        "save_pretrained": "hub.publish:save_pretrained",
        "detection": "detection",
    },
)

__all__ = [
    "VOC_LABELS",
    "Classifier",
    "ConfigError",
    "DatasetError",
    "InferenceOptions",
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
    "evaluate",
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

__getattr__ = _PUBLIC.attribute


def __dir__() -> list[str]:
    """List the public names."""
    return sorted({*__all__, *_PUBLIC})
