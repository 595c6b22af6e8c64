"""Classifiers as safetensors files that rebuild them, and whose backbone segmentation can start from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segmnv2.errors import ConfigError, WeightsError
from segmnv2.models.architecture import ClassifierArchitecture
from segmnv2.models.classifier import CLASSIFIER_STRIDE, Classifier, build_classifier
from segmnv2.models.file import read_model_file, read_normalization
from segmnv2.models.metadata import FORMAT
from segmnv2.weights.loading import build_filled
from segmnv2.weights.safetensors_file import write_safetensors


def save_classifier(path: str | Path, model: Classifier, provenance: Mapping[str, Any] | None = None) -> Path:
    """Write a classifier that was built by name.

    Args:
        path: file to write, replaced only once complete.
        model: the network.
        provenance: where the weights come from, as JSON values.

    Returns:
        The path written. ``create_model(..., backbone_weights=path)`` starts a segmentation network from it.

    Raises:
        ConfigError: the network was built from parts, so nothing says how to build it again, or its last layer has
            another number of classes than its names.
        WeightsError: the file cannot be written.
    """
    model.check_classes()
    if model.architecture is None:
        raise ConfigError(
            "this classifier was joined from parts, so a file could not rebuild it; build it with create_classifier, "
            "or save model.state_dict() yourself"
        )
    metadata = {
        "format": FORMAT,
        "kind": model.kind,
        "architecture": {
            **model.architecture.to_dict(),
            "class_names": list(model.class_names),
            "output_stride": model.backbone.output_stride,
        },
        "normalization": {"mean": model.normalization.mean, "std": model.normalization.std},
        "provenance": dict(provenance or {}),
    }
    return write_safetensors(path, model.state_dict(), metadata)


def load_classifier(path: str | Path) -> Classifier:
    """Build the classifier that a file describes and load its weights.

    Args:
        path: a safetensors file of :func:`save_classifier`.

    Returns:
        The network in evaluation mode, on the CPU.

    Raises:
        WeightsError: the file is missing, damaged, holds no classifier, or its tensors and description disagree.
    """
    tensors, metadata = read_model_file(path)
    if metadata["kind"] != Classifier.kind:
        raise WeightsError(
            f"{path}: holds a {metadata['kind']}, not a classifier; give a file that `segmnv2 train` wrote for "
            "an experiment in classification, or save_classifier"
        )
    try:
        values = dict(metadata["architecture"])
        output_stride = values.pop("output_stride", CLASSIFIER_STRIDE)
        architecture = ClassifierArchitecture(**{**values, "class_names": tuple(values["class_names"])})
        pixels = read_normalization(metadata)
        model = build_filled(lambda: build_classifier(architecture, normalization=pixels), tensors, str(path))
        if output_stride != model.backbone.output_stride:
            model.backbone.set_output_stride(output_stride)
    except ConfigError as error:
        raise WeightsError(f"{path}: its description cannot be built ({error}); train it again") from error
    return model.eval()
