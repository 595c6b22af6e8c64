"""Conversion of TensorFlow's, Hugging Face's, torchvision's and timm's checkpoints to one safetensors file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from segmnv2.backbones.backbone import create_backbone
from segmnv2.conversion.import_hugging_face import download, read_hugging_face
from segmnv2.conversion.import_source import Source
from segmnv2.conversion.import_tensorflow import read_tensorflow
from segmnv2.conversion.import_torch import is_torch, read_torch
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.labels import LabelSet
from segmnv2.models.model_file import save_backbone, save_model
from segmnv2.models.segmenter import build_model
from segmnv2.weights.loading import load_strict
from segmnv2.weights.safetensors_file import EXPORTS, describe_foreign

FOREIGN = (".h5", ".ckpt")


@dataclass(frozen=True)
class ImportReport:
    """Result of an import.

    Attributes:
        path: the file written.
        kind: ``"model"`` or ``"backbone"``.
        description: description of the model.
        parameters: number of trainable values of the model.
        used: number of loaded tensors.
        skipped: kinds of variables that the model does not need -> their number.
        note: a message for the user, if any.
    """

    path: Path
    kind: str
    description: str
    parameters: int
    used: int
    skipped: Mapping[str, int] = field(default_factory=dict)
    note: str = ""

    def __str__(self) -> str:
        skipped = ", ".join(f"{count} {kind}" for kind, count in self.skipped.items())
        return (
            f"{self.path}: {self.description}, {self.parameters:,} trainable values; {self.used} tensors used once each"
            + (f"; left out: {skipped}" if skipped else "")
            + (f"\nnote: {self.note}" if self.note else "")
        )


def import_checkpoint(
    source: str | Path,
    out: str | Path,
    *,
    output_stride: int | None = None,
    labels: LabelSet | None = None,
    ema: bool = False,
) -> ImportReport:
    """Convert a checkpoint into a safetensors file from which the model can be rebuilt.

    A checkpoint is one of these:

    - a TensorFlow V2 checkpoint: its prefix, one of its files, or its folder
    - a local folder of timm, or of transformers' ``MobileNetV2ForSemanticSegmentation`` or
      ``MobileNetV2ForImageClassification``; of the latter only the backbone is imported
    - the name of such a model on the Hugging Face Hub
    - a file with the state dict of a backbone of torchvision or timm

    Args:
        source: the checkpoint.
        out: file to write.
        output_stride: 8, 16 or 32; by default that of the checkpoint, or 16 for TensorFlow, whose files do not have it.
        labels: names and colors; by default those of the checkpoint, or VOC's for 21 classes.
        ema: take TensorFlow's moving averages instead of the weights.

    Returns:
        A report of the file, the tensors that were used and those that were left out.

    Raises:
        WeightsError: the checkpoint is missing, damaged, of an unknown kind, or does not fit a model of this library;
            the message lists the variables concerned.
        ConfigError: the number of labels is wrong, or labels, output stride or ``ema`` are not possible.
    """
    checkpoint = _read(source, ema)
    if ema and "moving_averages" not in checkpoint.provenance:
        raise ConfigError(f"{checkpoint.name}: has no moving averages of TensorFlow; import it without --ema")
    if output_stride is not None:
        architecture = replace(checkpoint.architecture, output_stride=output_stride)
        checkpoint = replace(checkpoint, architecture=architecture)
    if not checkpoint.backbone_only:
        return _write_model(checkpoint, out, labels)
    if labels is not None:
        raise ConfigError(f"{checkpoint.name}: holds a backbone, which has no classes to name; leave the labels out")
    return _write_backbone(checkpoint, out)


def _read(source: str | Path, ema: bool) -> Source:
    if Path(source).suffix.lower() in EXPORTS and Path(source).exists():
        raise WeightsError(f"{source}: {describe_foreign(source)}")
    if is_torch(source):
        return read_torch(source)
    if not is_hugging_face(source):
        return read_tensorflow(source, ema=ema)
    folder = Path(source) if Path(source).is_dir() else download(str(source))
    return read_torch(folder) if is_torch(folder) else read_hugging_face(source)


def is_hugging_face(source: str | Path) -> bool:
    """Return whether a source is a folder with ``config.json``, or ``owner/name`` and not a local path.

    Raises:
        WeightsError: the source is a file of a kind that cannot be imported.
    """
    path = Path(source)
    if path.is_file() and path.suffix in FOREIGN:
        raise WeightsError(
            f"{path}: a {path.suffix} file has no description of its model; give the folder with its config.json (a "
            "file that segmnv2 wrote needs no import)"
        )
    if path.is_dir():
        return (path / "config.json").is_file()
    is_name = re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) is not None
    return is_name and not path.is_file() and not path.parent.is_dir()


def _write_model(source: Source, out: str | Path, labels: LabelSet | None) -> ImportReport:
    labels = labels or source.labels
    if labels is not None and labels.num_classes != source.architecture.num_classes:
        raise ConfigError(
            f"{source.name}: has {source.architecture.num_classes} classes, the labels name {labels.num_classes}; "
            "give one name for each class, background first"
        )
    model = build_model(source.architecture, labels=labels, normalization=source.normalization)
    loaded = load_strict(model, source.tensors, source.name)
    path = save_model(out, model, source.provenance)
    return _report(path, "model", source, model.parameters(), len(loaded.matched))


def _write_backbone(source: Source, out: str | Path) -> ImportReport:
    options = source.architecture.backbone
    name = source.architecture.name
    backbone = create_backbone(name, output_stride=source.architecture.output_stride, **options)
    tensors = {key.removeprefix("backbone."): value for key, value in source.tensors.items()}
    loaded = load_strict(backbone, tensors, source.name)
    path = save_backbone(out, backbone, name, options, source.normalization, source.provenance)
    return _report(path, "backbone", source, backbone.parameters(), len(loaded.matched))


def _report(path: Path, kind: str, source: Source, parameters: Any, used: int) -> ImportReport:
    options = "".join(f", {key} {value}" for key, value in source.architecture.backbone.items())
    content = "backbone" if kind == "backbone" else f"{source.architecture.num_classes} classes"
    description = f"{source.architecture.name} ({content}, output stride {source.architecture.output_stride}{options})"
    return ImportReport(path, kind, description, sum(p.numel() for p in parameters), used, source.skipped, source.note)
