"""Checkpoints of other libraries under our names, and functions that read their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segmnv2.backbones.backbone import create_backbone
from segmnv2.errors import WeightsError
from segmnv2.files import documents
from segmnv2.labels import LabelSet
from segmnv2.models.architecture import Architecture
from segmnv2.models.pixels import Normalization
from segmnv2.models.segmenter import build_model

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
NUMBER = (int, float)


@dataclass(frozen=True)
class Source:
    """A checkpoint under our names, with the description of its model.

    Attributes:
        name: file or folder, for messages.
        architecture: description of the model; its name is that of a backbone if ``backbone_only``.
        tensors: all tensors, under our names if there are such names, else under their own.
        normalization: normalization of the pixels in training.
        labels: labels of the classes, if the checkpoint has them.
        backbone_only: whether the checkpoint has no segmentation head.
        note: a message for the user, if any.
        skipped: kinds of variables that were left out -> their number.
        provenance: origin of the checkpoint, as JSON values.
    """

    name: str
    architecture: Architecture
    tensors: Mapping[str, Tensor]
    normalization: Normalization
    labels: LabelSet | None = None
    backbone_only: bool = False
    note: str = ""
    skipped: Mapping[str, int] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


def own_tensors(architecture: Architecture) -> dict[str, Tensor]:
    """Return the tensors of our model on the meta device; names of a backbone alone begin with ``backbone.`` too."""
    with torch.device("meta"):
        if architecture.num_classes:
            return build_model(architecture).state_dict()
        backbone = create_backbone(architecture.name, output_stride=32, **architecture.backbone)
        return {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}


def find_weights(folder: Path) -> Path | None:
    """Return the file of weights beside a ``config.json``, if there is one."""
    return next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)


def need_weights(folder: Path) -> Path:
    """Return the file of weights beside a ``config.json``.

    Raises:
        WeightsError: there is no such file.
    """
    file = find_weights(folder)
    if file is None:
        raise WeightsError(f"{folder}: has neither {' nor '.join(WEIGHT_FILES)}; copy the weights beside config.json")
    return file


def read_json(path: Path) -> dict[str, Any]:
    """Read a mapping.

    Raises:
        WeightsError: the file is missing or unreadable, or does not hold a mapping.
    """
    values = documents.read_json(path, "copy it again, whole, as save_pretrained wrote it", WeightsError)
    if not isinstance(values, dict):
        raise WeightsError(f"{path}: holds {type(values).__name__}, not a mapping; copy it again")
    return values


def read_numbers(values: Any) -> list[float]:
    """Return the values of a JSON list of numbers.

    Raises:
        ValueError: the value is not such a list.
    """
    if not isinstance(values, list) or any(type(value) not in NUMBER for value in values):
        raise ValueError(f"{values!r:.80} is not a list of numbers")
    return [float(value) for value in values]
