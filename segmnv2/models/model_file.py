"""One safetensors file that is enough to build a network again: weights, architecture, labels, provenance."""

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
"""Backbones' name of the classifier's layer that segmentation leaves out."""


def save_model(path: str | Path, model: Segmenter, provenance: Mapping[str, Any] | None = None) -> Path:
    """Write a network that was built by name.

    Args:
        path: file to write; an existing one is replaced only when the new one is complete.
        model: the network; its present output stride is the one that the file gives back.
        provenance: origin of the weights, as JSON values; stored in the file.

    Returns:
        The path written.

    Raises:
        ConfigError: the network was built from parts, so nothing says how to build it again, or its last layer has
            another number of classes than its labels.
        WeightsError: the file cannot be written.
    """
    model.check_classes()
    if model.architecture is None:
        raise ConfigError(
            "this network was joined from parts, so a file could not rebuild it; build it with create_model, or save "
            "model.state_dict() yourself"
        )
    architecture = {
        **model.architecture.to_dict(),
        "num_classes": model.num_classes,
        "output_stride": model.output_stride,
    }
    metadata = network_metadata(model.kind, architecture, model.normalization, provenance)
    return write_safetensors(path, model.state_dict(), {**metadata, "labels": model.labels.to_dict()})


def network_metadata(
    kind: str,
    architecture: Mapping[str, Any],
    normalization: Normalization,
    provenance: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the metadata that files of all kinds of networks have; :func:`check_metadata` accepts them."""
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
    """Write a backbone alone, as the start for training.

    Args:
        path: file to write; an existing one is replaced only when the new one is complete.
        backbone: the module.
        name: its name in the registry.
        options: the constructor's arguments that were given.
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
    """Read tensors and metadata of a file that :func:`save_model` or :func:`save_backbone` wrote.

    Raises:
        WeightsError: missing, damaged, of another program, or of a newer version of this library.
    """
    tensors, metadata = read_safetensors(path)
    check_metadata(metadata, path)
    _check_normalization(tensors, metadata, path)
    return tensors, metadata


def _check_normalization(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], path: str | Path) -> None:
    """Refuse a file that normalizes in two ways; earlier versions rounded those of the metadata to four decimals."""
    for key in ("mean", "std"):
        stated, found = metadata["normalization"][key], tensors.get(f"pixel_{key}")
        if found is None or found.numel() != len(stated) or not found.is_floating_point():
            continue  # which loading refuses where they are needed
        precision = max(1e-6, torch.finfo(found.dtype).eps)
        if not np.allclose(found.double().flatten(), stated, rtol=precision, atol=1e-4):
            raise WeightsError(
                f"{path}: its tensor pixel_{key} is {found.flatten().tolist()}, its metadata says {stated}; it was "
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
    """Return what a file holds: one of :data:`segmnv2.models.architecture.KINDS`.

    Raises:
        WeightsError: as for :func:`read_model_file`.
    """
    return str(read_description(path)["kind"])


def load_model(path: str | Path, *, output_stride: int | None = None) -> Segmenter:
    """Build the network that a file describes and load its weights.

    Args:
        path: a safetensors file of :func:`save_model`.
        output_stride: 8, 16 or 32 in place of the file's.

    Returns:
        The network in evaluation mode, on the CPU.

    Raises:
        WeightsError: the file is missing, damaged, holds a backbone only, or its tensors and description disagree.
        ConfigError: an output stride that is not possible.
    """
    tensors, metadata = read_model_file(path)
    if metadata["kind"] != "model":
        raise WeightsError(
            f"{path}: holds a {metadata['kind']}, not a segmentation network; train one from it with "
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
        raise WeightsError(f"{path}: its description cannot be built ({error}); import or train it again") from error
    if output_stride is not None:
        model.set_output_stride(output_stride)
    return model.eval()


def read_normalization(metadata: Mapping[str, Any]) -> Normalization:
    """Return the normalization in a file's metadata, which :func:`check_metadata` accepts."""
    values = metadata["normalization"]
    return Normalization(tuple(values["mean"]), tuple(values["std"]))


def load_weights(
    model: PixelNetwork, path: str | Path, *, keep_logits: bool = True, backbone_only: bool = False
) -> LoadReport:
    """Load a file's weights, and its normalization, into a network that exists.

    Args:
        model: the network.
        path: a file of a network of the same kind, or with ``backbone_only`` of any kind.
        keep_logits: whether the last layer is loaded, whose classes must have the network's names and order. A
            segmenter with numbered labels takes those of the file, and a file with numbered labels fits all names.
            ``False`` to train on other classes.
        backbone_only: load only the backbone, of any kind of file; the 1280-channel layer of an ImageNet
            backbone is left out where the network has none.

    Returns:
        What was loaded.

    Raises:
        WeightsError: the file is missing or damaged; its backbone was built otherwise, also if no shape shows it,
            as with another epsilon; its classes have other names or another order; or a tensor is missing, unexpected
            or of another shape.
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
            "for other classes give keep_logits=False (model.keep_logits: false); for other parts, a file that has them"
        )
        report = load_strict(model, tensors, str(path), remedy)
        if keep_logits and isinstance(model, Segmenter) and model.labels.unnamed:
            model.labels = LabelSet.from_dict(metadata["labels"])
    model.set_normalization(read_normalization(metadata))
    return report


def _check_classes(model: PixelNetwork, metadata: Mapping[str, Any], source: str) -> None:
    """Refuse other names; another number of classes is left to the shapes, and numbered labels fit all names."""
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
    """Load a file's weights into a backbone that is used on its own.

    Args:
        backbone: the module.
        name: its name in the registry.
        options: the constructor's arguments that were given.
        path: a file of any kind; its 1280-channel layer is left out where the backbone has none.
        segments: whether it is the start of a segmentation network, whose dilations are its own.

    Returns:
        How images are normalized for these weights.

    Raises:
        WeightsError: as :func:`load_weights`.
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
    found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    own = backbone.state_dict()
    taken = {k: v for k, v in found.items() if k in own or not k.startswith(LAST_CONVS)}
    return load_strict(backbone, taken, source, f"the file holds {metadata['architecture']['name']}")
