"""What an exported file says of itself, inside the file and in a JSON file beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import segmnv2
from segmnv2.backends.base import Precision, check_precision
from segmnv2.data.checksum import file_sha256
from segmnv2.documents import dump_json
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.labels import LabelSet
from segmnv2.models.file import read_model_file
from segmnv2.models.segmenter import Segmenter

FORMAT_VERSION = 1
"""Of these entries; it grows when a reader of the old ones would be misled."""

Output = Literal["labels", "logits"]


@dataclass(frozen=True)
class ExportMetadata:
    """What a file holds. It is also the order by which the file is written.

    Attributes:
        format: name of the format, one of :data:`segmnv2.export.formats.FORMATS`.
        architecture: what the network was built from, as in a model file.
        output_stride: pixels between two logits.
        labels: names and colours of the classes, and the ignore index, which the file never gives out.
        precision: of the weights, and of the layers where the runtime follows it.
        size: (height, width) of the only image size that the file takes, or ``None`` for any.
        output: ``"labels"``, uint8 (1, height, width), or ``"logits"``, float32 (1, classes, rows, columns).
        padding: RGB, 0..255, what images are padded with; a fixed size is best filled up with it.
        provenance: name and SHA-256 of the weights' file, and what that file says of its origin.
        version: of segmnv2 that wrote it.
    """

    format: str
    architecture: Mapping[str, Any]
    output_stride: int
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
            **self.labels.to_dict(),
            "precision": self.precision,
            "size": None if self.size is None else list(self.size),
            "output": self.output,
            "padding": list(self.padding),
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str) -> ExportMetadata:
        """Read what :meth:`to_dict` returned.

        Args:
            values: the mapping.
            source: file that error messages name.

        Raises:
            WeightsError: it is of another program, of a newer version of this library, or damaged.
        """
        if "format_version" not in values:
            raise WeightsError(f"{source}: says nothing of segmnv2 inside; give a file that `segmnv2 export` wrote")
        if values["format_version"] != FORMAT_VERSION:
            raise WeightsError(
                f"{source}: its entries have version {values['format_version']!r}, this segmnv2 reads "
                f"{FORMAT_VERSION}; install the segmnv2 that wrote it ({values.get('segmnv2_version')})"
            )
        try:
            if values["output"] not in get_args(Output):
                raise ConfigError(f"output {values['output']!r} is not known")
            return cls(
                format=str(values["format"]),
                architecture=dict(values["architecture"]),
                output_stride=int(values["output_stride"]),
                labels=LabelSet.from_dict({key: values[key] for key in ("names", "palette", "ignore_index")}),
                precision=check_precision(values["precision"]),
                size=_read_size(values["size"]),
                output=values["output"],
                padding=_read_colour(values["padding"]),
                provenance=dict(values["provenance"]),
                version=str(values["segmnv2_version"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"{source}: what it says of itself is damaged ({error}); export it again") from error

    def to_entries(self) -> dict[str, str]:
        """Return one JSON text an entry, for formats that keep pairs of strings."""
        return {key: dump_json(value) for key, value in self.to_dict().items()}

    @classmethod
    def from_entries(cls, entries: Mapping[str, str], source: str) -> ExportMetadata:
        """Read what :meth:`to_entries` returned; entries of other programs are passed over.

        Raises:
            WeightsError: as for :meth:`from_dict`.
        """
        own = ExportMetadata("", {}, 1, LabelSet.numbered(1)).to_dict()
        try:
            values = {key: json.loads(text) for key, text in entries.items() if key in own}
        except (TypeError, ValueError) as error:
            raise WeightsError(f"{source}: what it says of itself is damaged ({error}); export it again") from error
        return cls.from_dict(values, source)


def describe_export(
    model: Segmenter,
    form: str,
    *,
    weights: str | Path | None = None,
    precision: Precision = "float32",
    size: tuple[int, int] | None = None,
    raw_logits: bool = False,
) -> ExportMetadata:
    """Return the metadata, which is the order, of a network's export.

    Args:
        model: the network, at the output stride that the file shall have.
        form: name of the format.
        weights: the model file it was loaded from, for its checksum and origin.
        precision: of the weights.
        size: (height, width) of the only image size, or ``None`` for any.
        raw_logits: give out logits in place of labels.

    Raises:
        WeightsError: the weights' file cannot be read.
    """
    architecture = {} if model.architecture is None else model.architecture.to_dict()
    return ExportMetadata(
        format=form,
        architecture={**architecture, "output_stride": model.output_stride},
        output_stride=model.output_stride,
        labels=model.labels,
        precision=precision,
        size=size,
        output="logits" if raw_logits else "labels",
        padding=_read_colour(model.pixel_mean.flatten().tolist()),
        provenance={} if weights is None else _provenance(Path(weights)),
    )


def _provenance(weights: Path) -> dict[str, Any]:
    origin = read_model_file(weights)[1].get("provenance") or {}
    # An experiment in full is in the weights' file and would be longer than all the rest.
    origin = {key: value for key, value in origin.items() if key != "experiment"}
    return {"weights": weights.name, "sha256": file_sha256(weights), "origin": origin}


def _read_size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    height, width = value
    return int(height), int(width)


def _read_colour(values: Any) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
