"""Description of a foreign checkpoint, before it is loaded into a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from segmnv2.labels import LabelSet
from segmnv2.models.architecture import Architecture
from segmnv2.models.pixels import Normalization


@dataclass(frozen=True)
class Source:
    """A checkpoint under our names, with the description of the network it belongs to.

    Attributes:
        name: file or folder that messages name.
        architecture: the network; its name is a backbone's if ``backbone_only``.
        tensors: all its tensors, named as ours where we have a name and as theirs otherwise.
        normalization: what it was trained with.
        labels: names of its classes, if it says.
        backbone_only: whether it has no segmentation head.
        note: what its user should know of it.
        skipped: kinds of variables that were left out, and how many.
        provenance: where it comes from, as JSON values.
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
