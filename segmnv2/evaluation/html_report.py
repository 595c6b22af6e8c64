"""An evaluation as one HTML page without other files."""

from __future__ import annotations

import math
from importlib.resources import files
from typing import Any

import numpy as np

from segmnv2.errors import counted
from segmnv2.evaluation.close_look import CloseLook
from segmnv2.evaluation.segmenters import ABSENT_RULE, Evaluation
from segmnv2.labels import LabelSet
from segmnv2.metrics.confusion import class_accuracy
from segmnv2.metrics.image_counts import ROUNDS, miou_interval

MATRIX_CLASSES = 40
"""Most classes in the confusion matrix; the most frequent ones are shown."""


def html_report(evaluation: Evaluation, look: CloseLook) -> str:
    """Return the page.

    Args:
        evaluation: the figures.
        look: the measures of the same evaluation; it was the argument ``observe`` of
            :func:`segmnv2.evaluation.segmenters.evaluate`.
    """
    from jinja2 import Environment, StrictUndefined

    template = files("segmnv2.evaluation").joinpath("html_report.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    low, high = miou_interval(evaluation.per_image.counts)
    names, matrix, note = _matrix(evaluation)
    curve = look.borders.curve()
    places = np.linspace(0.05, 0.95, len(curve)).tolist()
    return environment.from_string(template).render(
        miou=_percent(evaluation.miou),
        low=_percent(100 * low),
        high=_percent(100 * high),
        accuracy=_percent(evaluation.accuracy),
        boundary_iou=_percent(100 * look.borders.boundary_iou),
        calibration_error=_percent(100 * look.calibration.error),
        images=counted(evaluation.images, "image"),
        rule=ABSENT_RULE,
        rounds=ROUNDS,
        classes=_classes(evaluation, look.labels),
        curve=[(x, y) for x, y in zip(places, curve.values(), strict=True) if not math.isnan(y)],
        curve_ticks=list(zip(places, map(str, curve), strict=True)),
        calibration=[(confidence, right) for confidence, right, _ in look.calibration.points()],
        best=look.best,
        worst=look.worst,
        matrix_names=names,
        matrix=matrix,
        matrix_note=note,
        card=[*_flat(evaluation.protocol), *_flat({"network": evaluation.network})],
    )


def _percent(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.2f}"


def _classes(evaluation: Evaluation, labels: LabelSet) -> list[dict[str, Any]]:
    """Return the rows of the classes, in the colors of the data set, which the images have too."""
    truth = evaluation.confusion.sum(1).double()
    found = class_accuracy(evaluation.confusion).tolist()
    shares = (truth / truth.sum()).tolist()
    return [
        {
            "name": name,
            "color": color,
            "iou": "absent" if iou is None else f"{iou:.2f} %",
            "width": None if iou is None else round(iou, 1),
            "found": "" if math.isnan(recall) else f"{100 * recall:.1f} %",
            "truth": f"{100 * share:.2f} %",
        }
        for (name, iou), color, recall, share in zip(evaluation.iou.items(), labels.palette, found, shares, strict=True)
    ]


def _matrix(evaluation: Evaluation) -> tuple[list[str], list[tuple[str, list[float]]], str]:
    """Return the names of the columns, (name, shares 0..1) of the rows, and a note on classes that are left out."""
    counts = evaluation.confusion.double().numpy()
    total = counts.sum(0) + counts.sum(1)
    shown = sorted(np.argsort(-total, kind="stable")[:MATRIX_CLASSES])
    shown = [index for index in shown if total[index] > 0]
    names = [evaluation.labels.names[index] for index in shown]
    sums = np.maximum(counts.sum(1), 1)
    rows = [(name, (counts[index, shown] / sums[index]).tolist()) for name, index in zip(names, shown, strict=True)]
    left_out = int((total > 0).sum()) - len(shown)
    return names, rows, f"; {left_out} rarer classes are left out" if left_out else ""


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested values as (dotted key, text)."""
    result = []
    for key, value in values.items():
        if isinstance(value, dict):
            result += _flat(value, f"{prefix}{key}.")
        else:
            result.append((prefix + key, str(value)))
    return result
