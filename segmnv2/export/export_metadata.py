"""Metadata of exports, in the file and in a JSON file beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import segmnv2
from segmnv2.engines.backend import Precision
from segmnv2.errors import WeightsError
from segmnv2.files.checksum import file_sha256
from segmnv2.files.documents import dump_json, parse_json
from segmnv2.labels import LabelSet
from segmnv2.models.model_file import read_model_file
from segmnv2.models.segmenter import Segmenter

FORMAT_VERSION = 1  # version of these entries; it is raised when earlier readers cannot read the new entries
Output = Literal["labels", "logits"]

AGAIN = "export it again"
LONGEST_SIDE = 2**16


class _Entries(BaseModel):
    """Types and ranges of the entries."""

    model_config = ConfigDict(strict=True)

    segmnv2_version: str
    format: str
    architecture: dict[str, Any]
    output_stride: Annotated[int, Field(gt=0, le=64)]
    logits_stride: Annotated[int, Field(gt=0, le=64)] | None = None
    precision: Precision
    size: Annotated[list[Annotated[int, Field(gt=0, le=LONGEST_SIDE)]], Field(min_length=2, max_length=2)] | None
    output: Output
    padding: Annotated[list[Annotated[float, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]
    provenance: dict[str, Any]
    names: list[str]
    palette: list[list[int]]
    ignore_index: int
    ignore_color: list[int] | None = None
    label_defaults: list[str] = []


@dataclass(frozen=True)
class ExportMetadata:
    """Description of an exported file, which also determines how the file is written.

    Attributes:
        format: name of the format, one of :data:`segmnv2.export.formats.FORMATS`.
        architecture: arguments that build the model, as in a model file.
        output_stride: output stride of the model.
        logits_stride: pixels between two logits.
        labels: names and colors of the classes, and the ignore index, which the file never returns.
        precision: precision of the weights, and of the layers if the runtime can compute in it.
        size: (height, width) of the only image size that the file takes, or ``None`` for any.
        output: ``"labels"``, uint8 (1, height, width), or ``"logits"``, float32 (1, classes, rows, columns).
        padding: RGB color nearest to the model's padding, for users who pad images to a fixed size.
        provenance: name and SHA-256 of the file of weights, and the origin that this file states.
        version: version of segmnv2 that wrote the file.
    """

    format: str
    architecture: Mapping[str, Any]
    output_stride: int
    logits_stride: int
    labels: LabelSet
    precision: Precision = "float32"
    size: tuple[int, int] | None = None
    output: Output = "labels"
    padding: tuple[float, float, float] = (127.5, 127.5, 127.5)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    version: str = segmnv2.__version__

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; :meth:`from_dict` reads them."""
        return {
            "format_version": FORMAT_VERSION,
            "segmnv2_version": self.version,
            "format": self.format,
            "architecture": dict(self.architecture),
            "output_stride": self.output_stride,
            "logits_stride": self.logits_stride,
            **self.labels.to_dict(),
            "precision": self.precision,
            "size": None if self.size is None else list(self.size),
            "output": self.output,
            "padding": list(self.padding),
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_dict(cls, values: Any, source: str) -> ExportMetadata:
        """Read the JSON values of :meth:`to_dict`; error messages name the file ``source``.

        Raises:
            WeightsError: the values are damaged, or from another program or a newer version of this library.
        """
        if not isinstance(values, dict) or "format_version" not in values:
            raise WeightsError(f"{source}: has no metadata of segmnv2; give a file that `segmnv2 export` wrote")
        if values["format_version"] != FORMAT_VERSION:
            raise WeightsError(
                f"{source}: its entries have version {values['format_version']!r}, this segmnv2 reads "
                f"{FORMAT_VERSION}; install the segmnv2 that wrote it ({values.get('segmnv2_version')})"
            )
        try:
            read = _Entries.model_validate(values)
            keys = {"names", "palette", "ignore_index", "ignore_color", "label_defaults"}
            labels = LabelSet.from_dict(read.model_dump(include=keys))
        except ValueError as error:
            raise WeightsError(f"{source}: its metadata is damaged ({_reason(error)}); export it again") from error
        return cls(
            read.format,
            read.architecture,
            read.output_stride,
            read.logits_stride or read.output_stride,  # missing in older files, where both were equal
            labels,
            read.precision,
            None if read.size is None else (read.size[0], read.size[1]),
            read.output,
            (read.padding[0], read.padding[1], read.padding[2]),
            read.provenance,
            read.segmnv2_version,
        )

    @classmethod
    def from_json(cls, text: str, source: str) -> ExportMetadata:
        """Read the values of :meth:`to_dict` from one JSON text; errors are those of :meth:`from_dict`."""
        return cls.from_dict(parse_json(text, source, AGAIN, WeightsError), source)

    def to_entries(self) -> dict[str, str]:
        """Return one JSON text per entry, for formats that store pairs of strings."""
        return {key: dump_json(value) for key, value in self.to_dict().items()}

    @classmethod
    def from_entries(cls, entries: Mapping[str, str], source: str) -> ExportMetadata:
        """Read the entries of :meth:`to_entries` and ignore others; errors are those of :meth:`from_dict`."""
        own = {*_Entries.model_fields, "format_version"}
        values = {key: parse_json(text, source, AGAIN, WeightsError) for key, text in entries.items() if key in own}
        return cls.from_dict(values, source)


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    found = "" if first["type"] == "missing" else f", found {str(first['input'])[:60]!a}"
    return f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}{found}"


def describe_export(
    model: Segmenter,
    form: str,
    *,
    weights: str | Path | None = None,
    precision: Precision = "float32",
    size: tuple[int, int] | None = None,
    raw_logits: bool = False,
) -> ExportMetadata:
    """Return the metadata of an export.

    Args:
        model: the model, at the output stride of the file.
        form: name of the format.
        weights: the model file that it was loaded from, for checksum and origin.
        precision: precision of the weights.
        size: (height, width) of the only image size, or ``None`` for any.
        raw_logits: whether the file returns logits in place of labels.
    """
    architecture = {} if model.architecture is None else model.architecture.to_dict()
    architecture |= {"num_classes": model.num_classes} if architecture else {}
    red, green, blue = model.pixel_mean.clamp(0, 255).flatten().tolist()
    return ExportMetadata(
        format=form,
        architecture={**architecture, "output_stride": model.output_stride},
        output_stride=model.output_stride,
        logits_stride=model.logits_stride,
        labels=model.labels,
        precision=precision,
        size=size,
        output="logits" if raw_logits else "labels",
        padding=(float(red), float(green), float(blue)),
        provenance={} if weights is None else _provenance(Path(weights)),
    )


def _provenance(weights: Path) -> dict[str, Any]:
    origin = read_model_file(weights)[1].get("provenance") or {}
    # The experiment is omitted: the file of weights has it, and it is longer than everything else.
    origin = {key: value for key, value in origin.items() if key != "experiment"}
    return {"weights": weights.name, "sha256": file_sha256(weights), "origin": origin}
