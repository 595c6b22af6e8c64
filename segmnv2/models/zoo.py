"""Segmentation models by name, with fresh weights or weights from a file."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from segmnv2.errors import ConfigError
from segmnv2.labels import VOC_LABELS, LabelSet
from segmnv2.models.architecture import Architecture, ClassifierArchitecture
from segmnv2.models.model_file import load_weights, read_description
from segmnv2.models.pixels import TENSORFLOW_NORMALIZATION, Normalization, PixelNetwork
from segmnv2.models.segmenter import Segmenter, build_model

OUTPUT_STRIDE = 16

PRETRAINED = "pretrained"
"""The argument of timm's and smp's backbones that fetches weights."""


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    output_stride: int | None = None,
    labels: LabelSet | None = None,
    normalization: Normalization | None = None,
    weights: str | Path | None = None,
    keep_logits: bool = True,
    backbone_weights: str | Path | None = None,
    head_options: Mapping[str, Any] | None = None,
    **backbone_options: Any,
) -> Segmenter:
    """Build a segmentation model by name, with fresh weights or weights from a file.

    Args:
        name: one of :func:`segmnv2.list_models`.
        num_classes: number of classes, including the background; that of ``labels`` by default, else 21.
        output_stride: 8, 16 or 32; by default that of ``weights``, else 16. It can be changed later.
        labels: names and colors of the classes; by default those of ``weights``, else VOC's for 21 classes. Weights
            whose classes have other names or another order are refused unless ``keep_logits`` is false.
        normalization: normalization of pixels; by default the one that the weights need, and -1..1 without weights.
        weights: safetensors file of a whole model, as ``segmnv2 import`` or ``segmnv2 train`` writes it.
        keep_logits: whether to load the last layer of ``weights`` too; ``False`` for other classes.
        backbone_weights: a file of which only the backbone is loaded, such as one trained on ImageNet.
        head_options: options of the head, such as ``{"separable": True}`` for DeepLabv3+.
        backbone_options: arguments of the backbone, such as ``width=0.5``.

    Returns:
        The model in training mode.

    Raises:
        ConfigError: the name is unknown, backbone or head refuse a value, or both kinds of weights are given.
        WeightsError: a file is missing, damaged or does not fit.
    """
    if weights is not None and backbone_weights is not None:
        raise ConfigError(
            "weights and backbone_weights are both given; name one file, of the whole model or of the backbone"
        )
    described = None if weights is None else read_description(weights)
    if described is not None and described["kind"] == Segmenter.kind:
        if output_stride is None:
            output_stride = described["architecture"]["output_stride"]
        if labels is None and keep_logits:
            stated = LabelSet.from_dict(described["labels"])
            labels = stated if num_classes in (None, stated.num_classes) else None
    if num_classes is None:
        num_classes = labels.num_classes if labels else VOC_LABELS.num_classes
    stride = OUTPUT_STRIDE if output_stride is None else output_stride
    architecture = Architecture(name, num_classes, stride, backbone_options, head_options or {})
    model = build_model(architecture, labels=labels)  # refuses wrong options before they are used
    start_model(model, architecture, normalization, weights or backbone_weights, keep_logits, weights is None)
    return model


def start_model(
    model: PixelNetwork,
    architecture: Architecture | ClassifierArchitecture,
    normalization: Normalization | None,
    weights: str | Path | None,
    keep_logits: bool,
    backbone_only: bool,
) -> None:
    """Set the description and normalization of a fresh model, and load its weights if a file is given.

    Raises:
        WeightsError: the file is missing, damaged or does not fit.
    """
    options = architecture.backbone
    model.set_normalization(normalization or usual_normalization(options))
    # A file that is saved later contains the weights, so loading it must not fetch them again.
    # Lists and mappings are copied, because the caller may change them.
    model.architecture = deepcopy(replace(architecture, backbone=without_pretrained(options)))
    if weights is not None:
        load_weights(model, weights, keep_logits=keep_logits, backbone_only=backbone_only)
    if normalization is not None:
        model.set_normalization(normalization)


def without_pretrained(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a backbone's arguments without the one that fetches weights."""
    return {key: value for key, value in options.items() if key != PRETRAINED}


def usual_normalization(options: Mapping[str, Any]) -> Normalization:
    """Return the normalization of a model with these backbone options: that of timm's or smp's weights, or -1..1."""
    if not options.get(PRETRAINED):
        return TENSORFLOW_NORMALIZATION
    if "encoder" in options:
        from segmnv2.backbones.smp import smp_normalization

        return Normalization(*smp_normalization(options["encoder"], options[PRETRAINED]))
    from segmnv2.backbones.timm import timm_normalization

    return Normalization(*timm_normalization(options["model"]))
