"""Descriptions from which models are rebuilt, and the schema of a model file's metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from segmnv2.backbones.backbone import Whole
from segmnv2.errors import ConfigError, WeightsError, describe_fault, describe_value


@dataclass(frozen=True)
class Architecture:
    """Description of a segmentation model: everything except the weights that is needed to rebuild it.

    Attributes:
        name: a key of :data:`segmnv2.models.segmenter.MODELS`.
        num_classes: number of logits.
        output_stride: 8, 16 or 32.
        backbone: the given arguments of the backbone's constructor.
        head: the given options of the head.
    """

    name: str
    num_classes: int = 21
    output_stride: int = 16
    backbone: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments as JSON values; ``head`` only if an option was given."""
        return {key: value for key, value in asdict(self).items() if key != "head" or value}


@dataclass(frozen=True)
class ClassifierArchitecture:
    """Description of a classifier: everything except the weights that is needed to rebuild it.

    Attributes:
        name: a backbone's name.
        class_names: one for each logit.
        backbone: the given arguments of the backbone's constructor.
    """

    name: str
    class_names: Sequence[str]
    backbone: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments as JSON values."""
        return {**asdict(self), "class_names": list(self.class_names)}


FORMAT = 1
KINDS = ("model", "backbone", "classifier", "detector")
MOST_CLASSES = 2**16
MOST_CATEGORIES = 4096
"""Upper bound, exclusive, of a detector's category ids; each id has its own logits."""

Name = Annotated[str, Field(min_length=1, max_length=200)]
OutputStride = Annotated[Literal[8, 16, 32], Whole]
Mean = Annotated[float, Field(ge=-1e6, le=1e6)]
Deviation = Annotated[float, Field(ge=1e-3, le=1e6)]
ClassNames = Annotated[tuple[str, ...], Field(strict=False, min_length=1, max_length=MOST_CLASSES)]


def _without(*names: str) -> AfterValidator:
    def check(options: dict[str, Any]) -> dict[str, Any]:
        if given := sorted(options.keys() & set(names)):
            raise ValueError(f"{', '.join(given)} is not an option; give it outside of the options")
        return options

    return AfterValidator(check)


def _check_category(text: str) -> str:
    if not re.fullmatch("[1-9][0-9]{0,3}", text) or int(text) >= MOST_CATEGORIES:
        raise ValueError(f"{text[:80]!r} is not a category id; ids are 1 to {MOST_CATEGORIES - 1}")
    return text


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False, defer_build=True)  # built when first used


class _Normalization(_Part):
    mean: Annotated[tuple[Mean, Mean, Mean], Field(strict=False)]
    std: Annotated[tuple[Deviation, Deviation, Deviation], Field(strict=False)]


class _Architecture(_Part):
    """Description of any model; backbones and heads check their own options when they are built."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    output_stride: OutputStride = 32
    backbone: Annotated[dict[str, Any], _without("name", "output_stride")] = Field(default_factory=dict)


class _SegmenterArchitecture(_Architecture):
    num_classes: Annotated[int, Field(ge=1, le=255)]
    head: dict[str, Any] = Field(default_factory=dict)


class _ClassifierArchitecture(_Architecture):
    class_names: ClassNames


class _DetectorArchitecture(_Architecture):
    detector: Name
    class_names: Annotated[dict[Annotated[str, AfterValidator(_check_category)], str], Field(min_length=1)]
    size: Annotated[int, Field(ge=32, le=4096)]
    options: Annotated[
        dict[str, bool | Annotated[int | float, Field(ge=0, le=1e6)]],
        _without("detector", "backbone", "class_names", "size", "output_stride", "normalization"),
        _without("backbone_weights", "backbone_options"),
    ] = Field(default_factory=dict)


class _Metadata(_Part):
    normalization: _Normalization
    provenance: dict[str, Any] = Field(default_factory=dict)


class _Segmenter(_Metadata):
    architecture: _SegmenterArchitecture
    labels: dict[str, Any]


class _Backbone(_Metadata):
    architecture: _Architecture


class _Classifier(_Metadata):
    architecture: _ClassifierArchitecture


class _Detector(_Metadata):
    architecture: _DetectorArchitecture


_SCHEMAS: dict[str, type[_Metadata]] = {
    "model": _Segmenter,
    "backbone": _Backbone,
    "classifier": _Classifier,
    "detector": _Detector,
}
_ARCHITECTURES: dict[str, type[_Architecture]] = {
    "model": _SegmenterArchitecture,
    "classifier": _ClassifierArchitecture,
    "detector": _DetectorArchitecture,
}


def _faults(schema: type[BaseModel], values: Mapping[str, Any]) -> str:
    """Return a text with the first three faults of values, or an empty text."""
    try:
        schema.model_validate(values)
    except ValidationError as error:
        return "; ".join(map(describe_fault, error.errors(include_url=False)[:3]))
    return ""


def check_architecture(kind: str, values: Mapping[str, Any]) -> None:
    """Refuse a description by ``to_dict`` from which no model of a kind can be built.

    Raises:
        ConfigError: values have a wrong type or are out of range; the message names up to three.
    """
    if faults := _faults(_ARCHITECTURES[kind], values):
        raise ConfigError(faults)


def check_metadata(metadata: Mapping[str, Any], path: str | Path) -> None:
    """Refuse metadata of a safetensors file from which no model can be built.

    Raises:
        WeightsError: the metadata is of another program or version, or values are missing or not possible; the message
            names up to three.
    """
    if metadata.get("kind") not in KINDS or "architecture" not in metadata:
        raise WeightsError(
            f"{path}: is a safetensors file, but not of segmnv2 (no architecture in its metadata); convert the "
            "checkpoint it came from with `segmnv2 import`"
        )
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path}: has format {describe_value(metadata.get('format'))}, this version reads {FORMAT}; install the "
            "version of segmnv2 that wrote it"
        )
    if faults := _faults(_SCHEMAS[metadata["kind"]], metadata):
        raise WeightsError(
            f"{path}: its metadata is damaged: {faults}; copy the file again, or write it again with `segmnv2 import` "
            "or `segmnv2 train`"
        )
    if metadata["architecture"].get("backbone", {}).get("pretrained"):
        raise WeightsError(
            f"{path}: its metadata is damaged: it names weights to download, but the file has its own; copy it again"
        )
