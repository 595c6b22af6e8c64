"""Detectors as safetensors files that rebuild them, and whose backbone other networks can start from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from segmnv2.detection.detector import Detector, DetectorArchitecture, create_detector
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.hub.resolve import takes_names
from segmnv2.models.architecture import FORMAT
from segmnv2.models.compatibility import check_same_backbone, check_same_classes
from segmnv2.models.model_file import read_model_file, read_normalization
from segmnv2.weights.loading import build_filled, load_strict
from segmnv2.weights.safetensors_file import write_safetensors


def save_detector(path: str | Path, model: Detector, provenance: Mapping[str, Any] | None = None) -> Path:
    """Write a detector.

    Args:
        path: file to write, replaced only once complete.
        model: the detector; the file has its present output stride.
        provenance: where the weights come from, as JSON values.

    Returns:
        The path written. ``backbone_weights=path`` starts any other network on the same backbone from it.

    Raises:
        WeightsError: the file cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "kind": model.kind,
        "architecture": {**model.architecture.to_dict(), "output_stride": model.backbone.output_stride},
        "normalization": {"mean": model.normalization.mean, "std": model.normalization.std},
        "provenance": dict(provenance or {}),
    }
    return write_safetensors(path, model.network.state_dict(), metadata)


@takes_names("path")
def load_detector(path: str | Path) -> Detector:
    """Build the detector that a file describes and load its weights.

    Args:
        path: a safetensors file of :func:`save_detector`.

    Returns:
        The detector in evaluation mode, on the CPU; ``.network`` is torchvision's.

    Raises:
        WeightsError: the file is missing, damaged, holds no detector, or its tensors and description disagree.
    """
    tensors, metadata = _read(path)
    try:
        architecture = DetectorArchitecture.from_dict(metadata["architecture"])
        build = partial(
            create_detector,
            architecture.detector,
            architecture.name,
            class_names=architecture.class_names,
            size=architecture.size,
            output_stride=architecture.output_stride,
            normalization=read_normalization(metadata),
            backbone_options=architecture.backbone,
            **architecture.options,
        )
        model = build_filled(build, {f"network.{name}": tensor for name, tensor in tensors.items()}, str(path))
    except ConfigError as error:
        raise WeightsError(f"{path}: its description cannot be built ({error}); train it again") from error
    return model.eval()


def load_detector_weights(model: Detector, path: str | Path, *, keep_logits: bool = True) -> None:
    """Load a detector's file, and its normalization, into a detector that exists.

    Args:
        model: the detector.
        path: a file of a detector of the same kind on the same backbone.
        keep_logits: whether the layers that belong to the classes are loaded; ``False`` to train on other classes.

    Raises:
        WeightsError: the file is missing or damaged, is of another kind of detector or backbone, or its classes are
            others.
    """
    tensors, metadata = _read(path)
    own, theirs = model.architecture, metadata["architecture"]
    if theirs.get("detector") != own.detector:
        raise WeightsError(f"{path}: holds a {theirs.get('detector')}, not a {own.detector}; give a file of that kind")
    check_same_backbone(own.name, own.backbone, metadata, str(path))
    if keep_logits:
        here, there = (
            [f"{number} {name}" for number, name in sorted((int(number), name) for number, name in each.items())]
            for each in (own.class_names, theirs["class_names"])
        )
        check_same_classes(here, there, str(path))
    else:
        fresh = {k: v for k, v in model.network.state_dict().items() if k.startswith(model.family.predictor)}
        tensors = {**tensors, **fresh}
    load_strict(model.network, tensors, str(path))
    model.set_normalization(read_normalization(metadata))


def _read(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    tensors, metadata = read_model_file(path)
    if metadata["kind"] != Detector.kind:
        raise WeightsError(
            f"{path}: holds a {metadata['kind']}, not a detector; give a file that `segmnv2 train` wrote for an "
            "experiment in detection, or save_detector"
        )
    return tensors, metadata
