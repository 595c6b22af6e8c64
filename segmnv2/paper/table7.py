"""The paper's Table 7: costs and mIOU of this library's models beside the printed ones."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segmnv2.backbones.backbone import complete_options
from segmnv2.errors import ConfigError, counted
from segmnv2.files.documents import dump_json, read_json
from segmnv2.inference.canvas import SCALES
from segmnv2.labels import VOC_LABELS, LabelSet
from segmnv2.models.cost import count_parameters, trace_madds, trace_multi_scale_madds
from segmnv2.models.segmenter import MODELS
from segmnv2.models.zoo import PRETRAINED, create_model

SIZE = 513
UNMEASURED = "not measured"
FLOAT32 = "float32"
VAL = "val"
VAL_IMAGES = 1449
"""Number of images in VOC 2012 val, on which the paper measured its mIOU."""


@dataclass(frozen=True)
class PaperRow:
    """A printed row of Table 7: mIOU in percent, parameters in millions, multiply-adds in billions."""

    network: str
    model: str
    output_stride: int
    aspp: bool
    mf: bool
    miou: float
    params: float
    madds: float
    note: str = ""


V1_NOTE = "MAdds: the same count agrees with the seven other rows; the printed value is unexplained"

TABLE7 = (
    PaperRow("MNet V1", "deeplabv3_mobilenet_v1_aspp", 16, True, False, 75.29, 11.15, 14.25),
    PaperRow("MNet V1", "deeplabv3_mobilenet_v1_aspp", 8, True, True, 78.56, 11.15, 941.9, V1_NOTE),
    PaperRow("MNet V2*", "deeplabv3_mobilenet_v2_aspp", 16, True, False, 75.70, 4.52, 5.8),
    PaperRow("MNet V2*", "deeplabv3_mobilenet_v2_aspp", 8, True, True, 78.42, 4.52, 387.0),
    PaperRow("MNet V2*", "deeplabv3_mobilenet_v2", 16, False, False, 75.32, 2.11, 2.75),
    PaperRow("MNet V2*", "deeplabv3_mobilenet_v2", 8, False, True, 77.33, 2.11, 152.6),
    PaperRow("ResNet-101", "deeplabv3_resnet101_aspp", 16, True, False, 80.49, 58.16, 81.0),
    PaperRow("ResNet-101", "deeplabv3_resnet101_aspp", 8, True, True, 82.70, 58.16, 4870.6),
)
"""Source: MobileNetV2, Table 7 (VOC 2012 val, pre-trained on COCO). ``model`` is this library's."""


@dataclass(frozen=True)
class Row:
    """A row of the report.

    Attributes:
        network: name in the paper.
        output_stride: 16 or 8.
        aspp: whether the head has ASPP.
        mf: whether inference is multi-scale and flipped; multiply-adds then count all twelve passes.
        params: trainable values.
        madds_plain: multiply-adds at 513 x 513, each output sample counted once.
        madds_paper_convention: the same with dilated convolutions counted as TensorFlow 1 executed them.
        miou: mIOU in percent, or ``None`` without an evaluation.
        miou_source: the evaluation file with the mIOU, or ``"not measured"``.
        paper: the printed values: ``miou`` in percent, ``params`` in millions, ``madds`` in billions.
        note: images and precision of a measured mIOU, and a mark of a printed value that is unexplained.
    """

    network: str
    output_stride: int
    aspp: bool
    mf: bool
    params: int
    madds_plain: int
    madds_paper_convention: int
    miou: float | None
    miou_source: str
    paper: dict[str, float]
    note: str = ""


def table7(evaluations: Iterable[str | Path] = ()) -> list[Row]:
    """Compute Table 7.

    Args:
        evaluations: files that ``segmnv2 evaluate --json`` wrote. A row takes the mIOU of the last file with its model
            and protocol, and names that file. Rows without a file have no mIOU.

    Returns:
        Eight rows in the paper's order.

    Raises:
        ConfigError: a file is missing, is no evaluation, or belongs to no row.
    """
    measured = {}
    for path in evaluations:
        index, result = _match(Path(path))
        measured[index] = (str(path), result)
    return [_row(paper, measured.get(index)) for index, paper in enumerate(TABLE7)]


def _row(paper: PaperRow, measured: tuple[str, dict[str, Any]] | None) -> Row:
    params, plain, convention = _costs(paper.model, paper.output_stride, paper.mf)
    source, miou, note = UNMEASURED, None, paper.note
    if measured is not None:
        source, result = measured
        miou = result["miou"]
        part = "" if result["images"] == VAL_IMAGES else f", not VOC's {VAL_IMAGES}"
        precision, split = result["protocol"].get("precision", FLOAT32), result["protocol"].get("split")
        words = (
            f"{counted(result['images'], 'image')}{part}",
            "" if split in (None, VAL) else f"of the split {split}, not {VAL}",
            "" if precision == FLOAT32 else f"in {precision}",
            paper.note,
        )
        note = "; ".join(filter(None, words))
    return Row(
        network=paper.network,
        output_stride=paper.output_stride,
        aspp=paper.aspp,
        mf=paper.mf,
        params=params,
        madds_plain=plain,
        madds_paper_convention=convention,
        miou=miou,
        miou_source=source,
        paper={"miou": paper.miou, "params": paper.params, "madds": paper.madds},
        note=note,
    )


@lru_cache
def _costs(name: str, output_stride: int, mf: bool) -> tuple[int, int, int]:
    with torch.device("meta"):  # counting needs shapes, not weights
        model = create_model(name, output_stride=output_stride)

    size = (SIZE, SIZE)
    madds = trace_multi_scale_madds(model, SCALES, flip=True, size=size) if mf else trace_madds(model, size)
    return count_parameters(model), madds.plain, madds.paper


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Network(_Strict):
    name: str
    backbone: dict[str, Any] = {}
    head: dict[str, Any] = {}


class _Protocol(_Strict):
    scales: list[float]
    flip: bool
    size: int | str | list[int] | None
    output_stride: int
    dataset: str | None = None  # evaluations in Python do not state it
    split: str | None = None
    precision: str = FLOAT32


class _Evaluation(_Strict):
    """The part of an evaluation's JSON that the table needs."""

    network: _Network
    protocol: _Protocol
    iou: dict[str, float | None]
    miou: Annotated[float, Field(ge=0, le=100)]
    images: Annotated[int, Field(gt=0)]


EVALUATION = "give a file that `segmnv2 evaluate --json` wrote"


def _match(path: Path) -> tuple[int, dict[str, Any]]:
    """Return the index of the row that an evaluation file belongs to, and the file's content."""
    result = read_json(path, EVALUATION, ConfigError)
    try:
        found = _Evaluation.model_validate(result)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "it"
        reason = f"{place}: {first['msg'].lower()}"
        raise ConfigError(f"{path}: is no evaluation of segmentation ({reason}); {EVALUATION}") from error
    voc = (set(VOC_LABELS.names), set(LabelSet.numbered(VOC_LABELS.num_classes).names))
    if set(found.iou) not in voc or found.protocol.dataset not in (None, "voc"):
        raise ConfigError(
            f"{path}: was measured on {len(found.iou)} classes ({', '.join(found.iou)[:60]}, ...) of the data set "
            f"{found.protocol.dataset or 'unknown'}; "
            "Table 7 is of PASCAL VOC's 21 classes; measure these with `segmnv2 evaluate --dataset voc`"
        )
    protocol, name = found.protocol, found.network.name
    scales, size, stride = tuple(protocol.scales), protocol.size, protocol.output_stride
    mf, single = scales == SCALES and protocol.flip, scales == (1.0,) and not protocol.flip
    for index, row in enumerate(TABLE7):
        fits = row.model == name and row.output_stride == stride and row.mf == mf
        if fits and (mf or single) and size == SIZE and _has_papers_options(found.network):
            return index, result
    options = "".join(f", {key} {value}" for key, value in {**found.network.backbone, **found.network.head}.items())
    raise ConfigError(
        f"{path}: {name}{options} at output stride {stride}, size {size}, scales {protocol.scales}, flip "
        f"{protocol.flip} is no row of Table 7; its rows are {', '.join(dict.fromkeys(row.model for row in TABLE7))} "
        f"with the paper's options (width 1.0) at size {SIZE}, output stride 16 without or 8 with --multi-scale --flip"
    )


def _has_papers_options(network: _Network) -> bool:
    """Return whether a model has the options of the paper's model, which are the defaults."""
    backbone = MODELS[network.name].backbone
    given, papers = (json.loads(dump_json(complete_options(backbone, options))) for options in (network.backbone, {}))
    return not network.head and all(given[key] == papers.get(key) for key in given if key != PRETRAINED)


def to_markdown(rows: Iterable[Row]) -> str:
    """Return the table with the paper's values in brackets, and an explanation."""
    lines = [
        "| Network | OS | ASPP | MF | mIOU % (paper) | from | Params (paper) | MAdds plain | "
        "MAdds by the paper's count (paper) |",
        "|---|---:|:-:|:-:|---:|---|---:|---:|---:|",
    ]
    for row in rows:
        paper = row.paper
        costs = [
            f"{row.params / 1e6:.2f} M ({paper['params']:.2f} M)",
            f"{row.madds_plain / 1e9:.4g} B",
            f"{row.madds_paper_convention / 1e9:.4g} B ({paper['madds']:g} B)",
        ]
        source = row.miou_source + (f", {row.note}" if row.note else "")
        miou = f"{'-' if row.miou is None else f'{row.miou:.2f}'} ({paper['miou']:.2f})"
        ticks = ["yes" if value else "" for value in (row.aspp, row.mf)]
        cells = [row.network, str(row.output_stride), *ticks, miou, source, *costs]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"At {SIZE} x {SIZE}. MF: the sum of 12 passes, 6 scales each plain and mirrored. Params are trainable values. "
        "Plain MAdds count each output sample of a convolution once. The paper's count includes the padding of dilated "
        "convolutions to a multiple of the dilation, as TensorFlow 1 executed them. `-`: not measured; "
        "`segmnv2 report table7 --evaluation FILE` reads a file of `segmnv2 evaluate --json FILE`.",
    ]
    return "\n".join(lines)
