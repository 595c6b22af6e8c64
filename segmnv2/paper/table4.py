"""The paper's Table 4: computed costs of ImageNet classifiers beside the printed ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from segmnv2.models.classifier import create_classifier
from segmnv2.models.cost import count_parameters, trace_madds

SIZE = 224


@dataclass(frozen=True)
class PaperRow:
    """A printed row of Table 4: top-1 in percent, parameters and multiply-adds in millions, milliseconds on a phone."""

    network: str
    backbone: str
    options: tuple[tuple[str, float], ...]
    top1: float
    params: float
    madds: float
    milliseconds: float | None
    note: str = ""


_V1_NOTE = "MAdds: slim's README has 569 M for the same network; 575 is unexplained"
_V2_NOTE = "params: slim's README counts 3.47 M without batch norm; 3.4 is this value truncated"
_WIDE_NOTE = "params: slim's README counts 6.06 M without batch norm; 6.9 is unexplained"

TABLE4 = (
    PaperRow("MobileNetV1", "mobilenet_v1", (), 70.6, 4.2, 575, 113, _V1_NOTE),
    PaperRow("ShuffleNet (1.5)", "shufflenet_v1", (("width", 1.5),), 71.5, 3.4, 292, None),
    PaperRow("ShuffleNet (x2)", "shufflenet_v1", (("width", 2.0),), 73.7, 5.4, 524, None),
    PaperRow("NASNet-A", "nasnet_a_mobile", (), 74.0, 5.3, 564, 183),
    PaperRow("MobileNetV2", "mobilenet_v2", (), 72.0, 3.4, 300, 75, _V2_NOTE),
    PaperRow("MobileNetV2 (1.4)", "mobilenet_v2", (("width", 1.4),), 74.7, 6.9, 585, 143, _WIDE_NOTE),
)
"""Source: MobileNetV2, Table 4."""


@dataclass(frozen=True)
class Row:
    """A row of the report.

    Attributes:
        network: name in the paper.
        params: trainable values, batch norm's scales and shifts included.
        weights: trainable values of convolutions and linear layers alone, as slim's tables count them.
        madds: multiply-adds for one image of 224 x 224.
        paper: the printed values: ``top1`` in percent, ``params`` and ``madds`` in millions, ``milliseconds`` on a
            Google Pixel 1. Accuracy and time are not measured here.
        note: reason, if a value differs from the printed one by more than 1 %.
    """

    network: str
    params: int
    weights: int
    madds: int
    paper: dict[str, float | None]
    note: str = ""


@lru_cache
def count_costs(backbone: str, options: tuple[tuple[str, float], ...], size: int) -> tuple[int, int, int]:
    """Return a classifier's trainable values, the same without batch norm, and its multiply-adds at an image size."""
    with torch.device("meta"):  # counting needs shapes, not weights
        model = create_classifier(backbone, **dict[str, Any](options))
    norms = sum(count_parameters(module) for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    params = count_parameters(model)
    return params, params - norms, trace_madds(model, (size, size)).plain


def table4() -> list[Row]:
    """Compute Table 4: six rows in the paper's order."""
    return [_row(paper) for paper in TABLE4]


def _row(paper: PaperRow) -> Row:
    printed = {name: getattr(paper, name) for name in ("top1", "params", "madds", "milliseconds")}
    return Row(paper.network, *count_costs(paper.backbone, paper.options, SIZE), printed, paper.note)


def to_markdown(rows: Iterable[Row]) -> str:
    """Return the table with the paper's values in brackets, and an explanation."""
    lines = [
        "| Network | Top-1 % (paper) | Params (paper) | without batch norm | MAdds (paper) | CPU ms (paper) | Note |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        paper = row.paper
        phone = "" if paper["milliseconds"] is None else f"{paper['milliseconds']:g}"
        lines.append(
            f"| {row.network} | {paper['top1']:g} | {row.params / 1e6:.3f} M ({paper['params']:g} M) "
            f"| {row.weights / 1e6:.3f} M "
            f"| {row.madds / 1e6:.1f} M ({paper['madds']:g} M) | {phone} | {row.note} |"
        )
    lines += [
        "",
        f"At {SIZE} x {SIZE}, with a linear layer to 1000 classes. Params (trainable values) and MAdds (of "
        "convolutions and the linear layer) are computed. Top-1 and milliseconds (Google Pixel 1) are the paper's and "
        "were not measured here.",
    ]
    return "\n".join(lines)
