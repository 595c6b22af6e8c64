"""Model files: safetensors with all that is needed to rebuild a model, and the origin of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segmnv2.backbones.backbone import FOREIGN, Backbone
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.labels import LabelSet
from segmnv2.models.architecture import FORMAT, Architecture, check_metadata
from segmnv2.models.pixels import Normalization, PixelNetwork
from segmnv2.models.segmenter import MODELS, Segmenter, build_model
from segmnv2.weights.loading import LoadReport, build_filled, load_strict
from segmnv2.weights.safetensors_file import read_metadata, read_safetensors, write_safetensors

LAST_CONVS = ("last.", "conv5.")
"""Prefixes of a classifier's last convolution in backbones; segmentation omits it."""


def save_model(path: str | Path, model: Segmenter, provenance: Mapping[str, Any] | None = None) -> Path:
    """Write a segmentation model that was built by name.

    Args:
        path: file to write; an existing one is replaced only when the new one is complete.
        model: the model; its current output stride is stored too.
        provenance: origin of the weights, as JSON values; it is stored in the file.

    Returns:
        The path.

    Raises:
        ConfigError: the model was joined from parts and so cannot be rebuilt, or its last layer does not have one
            output for each label.
        WeightsError: the file cannot be written.
    """
    architecture = {
        **rebuildable(model, "create_model"),
        "num_classes": model.num_classes,
        "output_stride": model.output_stride,
    }
    metadata = network_metadata(model.kind, architecture, model.normalization, provenance)
    return write_safetensors(path, model.state_dict(), {**metadata, "labels": model.labels.to_dict()})


def rebuildable(model: PixelNetwork, builder: str) -> dict[str, Any]:
    """Return the arguments from which a ``builder`` built a model.

    Raises:
        ConfigError: the model was joined from parts, or an output of its last layer has no class name.
    """
    model.check_classes()
    if model.architecture is None:
        raise ConfigError(
            f"this {model.kind} was joined from parts, so it cannot be rebuilt from a file; build it with {builder}, "
            "or save model.state_dict() yourself"
        )
    return model.architecture.to_dict()


def network_metadata(
    kind: str, architecture: Mapping[str, Any], normalization: Normalization, provenance: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the metadata that the files of all kinds of models have; :func:`check_metadata` accepts it."""
    return {
        "format": FORMAT,
        "kind": kind,
        "architecture": architecture,
        "normalization": {"mean": normalization.mean, "std": normalization.std},
        "provenance": dict(provenance or {}),
    }


def save_backbone(
    path: str | Path,
    backbone: Backbone,
    name: str,
    options: Mapping[str, Any],
    normalization: Normalization,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Write a backbone alone, from which training can start.

    Args:
        path: file to write; an existing one is replaced only when the new one is complete.
        backbone: the backbone.
        name: a name of :data:`segmnv2.backbones.backbone.BACKBONES`.
        options: the given arguments of its constructor.
        normalization: normalization of pixels with which the weights were trained.
        provenance: origin of the weights, as JSON values.

    Raises:
        WeightsError: the file cannot be written.
    """
    given = {key: value for key, value in options.items() if key != "pretrained"}  # the file holds the weights
    architecture = {"name": name, "output_stride": backbone.output_stride, "backbone": given}
    metadata = network_metadata("backbone", architecture, normalization, provenance)
    return write_safetensors(path, {f"backbone.{k}": v for k, v in backbone.state_dict().items()}, metadata)


def read_model_file(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and metadata of a model file.

    Raises:
        WeightsError: the file is missing, damaged, of another program, or of a newer version of this library.
    """
    tensors, metadata = read_safetensors(path)
    check_metadata(metadata, path)
    _check_normalization(tensors, metadata, path)
    return tensors, metadata


def _check_normalization(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], path: str | Path) -> None:
    """Refuse a file with two different normalizations; earlier versions rounded the metadata to four decimals."""
    for key in ("mean", "std"):
        stated, tensor = metadata["normalization"][key], tensors.get(f"pixel_{key}")
        if tensor is None or tensor.numel() != len(stated) or not tensor.is_floating_point():
            continue  # loading refuses them if they are needed
        precision = max(1e-6, torch.finfo(tensor.dtype).eps)
        if not np.allclose(tensor.double().flatten(), stated, rtol=precision, atol=1e-4):
            raise WeightsError(
                f"{path}: its tensor pixel_{key} is {tensor.flatten().tolist()}, its metadata says {stated}; it was "
                "changed after it was written: copy it again, or import or train it again"
            )


def read_description(path: str | Path) -> dict[str, Any]:
    """Read the metadata of a file alone.

    Raises:
        WeightsError: as for :func:`read_model_file`.
    """
    metadata = read_metadata(path)
    check_metadata(metadata, path)
    return metadata


def read_kind(path: str | Path) -> str:
    """Return the kind of a model file: one of :data:`segmnv2.models.architecture.KINDS`.

    Raises:
        WeightsError: as for :func:`read_model_file`.
    """
    return str(read_description(path)["kind"])


def load_model(path: str | Path, *, output_stride: int | None = None) -> Segmenter:
    """Build the segmentation model that a file describes and load its weights.

    Args:
        path: a safetensors file of :func:`save_model`.
        output_stride: 8, 16 or 32; by default that of the file.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        WeightsError: the file is missing or damaged, holds another kind of model, or its tensors do not fit its
            description.
        ConfigError: the output stride is not possible.
    """
    tensors, metadata = read_model_file(path)
    if metadata["kind"] != "model":
        raise WeightsError(
            f"{path}: holds a {metadata['kind']}, not a segmentation model; train one from it with "
            "`segmnv2 train CONFIG -o model.backbone_weights=FILE` (a classifier is evaluated with --dataset "
            "image-folder, a detector with --dataset coco)"
        )
    try:
        architecture = Architecture(**metadata["architecture"])
        labels = LabelSet.from_dict(metadata["labels"])
        pixels = read_normalization(metadata)
        spec = MODELS.get(architecture.name)
        model = build_filled(
            lambda: build_model(architecture, labels=labels, normalization=pixels),
            tensors,
            str(path),
            all_stored=spec is not None and spec.backbone not in FOREIGN,
        )
    except ConfigError as error:
        raise WeightsError(
            f"{path}: no model can be built from its description ({error}); import or train it again"
        ) from error
    if output_stride is not None:
        model.set_output_stride(output_stride)
    return model.eval()


def read_normalization(metadata: Mapping[str, Any]) -> Normalization:
    """Return the normalization in the metadata of a file or in the record of a run."""
    values = metadata["normalization"]
    return Normalization(tuple(values["mean"]), tuple(values["std"]))


def load_weights(
    model: PixelNetwork, path: str | Path, *, keep_logits: bool = True, backbone_only: bool = False
) -> LoadReport:
    """Load the weights and the normalization of a file into an existing model.

    Args:
        model: the model.
        path: a file of the same kind of model, or with ``backbone_only`` of any kind.
        keep_logits: whether to load the last layer, whose classes must have the model's names and order. A segmenter
            with numbered labels takes the labels of the file, and a file with numbered labels fits all names. Give
            ``False`` to train on other classes.
        backbone_only: load only the backbone; the 1280-channel layer of an ImageNet backbone is omitted if the model
            has none.

    Returns:
        Report of the loaded tensors.

    Raises:
        WeightsError: the file is missing or damaged, its backbone has other options, its classes or their order
            differ, or its tensors do not fit.
    """
    from segmnv2.models.compatibility import check_same_network

    tensors, metadata = read_model_file(path)
    if not backbone_only and metadata["kind"] != model.kind:
        only = " only" if model.kind == "model" else ""
        raise WeightsError(f"{path}: holds a {metadata['kind']}{only}; give it as backbone_weights, not as weights")
    check_same_network(model, metadata, str(path), backbone_only=backbone_only)
    if backbone_only:
        report = _load_backbone(model.backbone, tensors, metadata, str(path))
    else:
        if keep_logits:
            _check_classes(model, metadata, str(path))
        else:
            logits = {k: v for k, v in model.state_dict().items() if k.startswith(f"{model.logits_name}.")}
            tensors = {**tensors, **logits}
        remedy = (
            "for other classes give keep_logits=False (model.keep_logits: false); for other parts give a file with them"
        )
        report = load_strict(model, tensors, str(path), remedy)
        if keep_logits and isinstance(model, Segmenter) and model.labels.unnamed:
            model.labels = LabelSet.from_dict(metadata["labels"])
    model.set_normalization(read_normalization(metadata))
    return report


def _check_classes(model: PixelNetwork, metadata: Mapping[str, Any], source: str) -> None:
    """Refuse other class names; numbered labels fit all names, and shapes show another number of classes."""
    from segmnv2.models.compatibility import check_same_classes

    if isinstance(model, Segmenter):
        labels = LabelSet.from_dict(metadata["labels"])
        names, unnamed = labels.names, labels.unnamed or model.labels.unnamed
    else:
        names, unnamed = metadata["architecture"]["class_names"], False
    if len(names) == len(model.class_names) and not unnamed:
        check_same_classes(model.class_names, names, source)


def load_backbone_weights(
    backbone: Backbone, name: str, options: Mapping[str, Any], path: str | Path, *, segments: bool = False
) -> Normalization:
    """Load the weights of a file into a backbone that is used alone.

    Args:
        backbone: the backbone.
        name: a name of :data:`segmnv2.backbones.backbone.BACKBONES`.
        options: the given arguments of its constructor.
        path: a file of any kind; its 1280-channel layer is omitted if the backbone has none.
        segments: whether a segmentation model starts from the backbone, whose dilations may differ.

    Returns:
        Normalization of the images that the weights need.

    Raises:
        WeightsError: as for :func:`load_weights`.
    """
    from segmnv2.models.compatibility import check_same_backbone

    tensors, metadata = read_model_file(path)
    check_same_backbone(name, options, metadata, str(path), segments=segments)
    _load_backbone(backbone, tensors, metadata, str(path))
    return read_normalization(metadata)


def _load_backbone(
    backbone: Backbone, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], source: str
) -> LoadReport:
    prefix = "backbone.backbone." if metadata["kind"] == "detector" else "backbone."
    stored = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    own = backbone.state_dict()
    needed = {k: v for k, v in stored.items() if k in own or not k.startswith(LAST_CONVS)}
    return load_strict(backbone, needed, source, f"the file holds {metadata['architecture']['name']}")
