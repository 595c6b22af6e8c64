"""COCO's average precision, by pycocotools, or by faster-coco-eval if it is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import StringIO
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from segmnv2.errors import ConfigError

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
"""The first six of COCO's twelve measures, in its order."""


@dataclass(frozen=True)
class AveragePrecision:
    """Average precisions in percent; NaN if there are no true boxes.

    Attributes:
        ap: mean over IoUs of 0.5 to 0.95.
        ap50: AP at an IoU of 0.5.
        ap75: AP at an IoU of 0.75.
        ap_small: AP of boxes below 32 x 32 pixels.
        ap_medium: AP of boxes below 96 x 96.
        ap_large: AP of larger boxes.
        images: number of images.
        by_class: category id -> ``ap`` of that category alone; categories without a true box are left out.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    images: int
    by_class: dict[int, float] = field(default_factory=dict)


def coco_ap(
    coco: COCO, detections: Mapping[int, Mapping[str, Tensor]], *, library: str | None = None
) -> AveragePrecision:
    """Compare detections with COCO's annotations of the same images.

    Args:
        coco: the annotations.
        detections: image id -> detections in the form of torchvision's detectors: ``boxes`` (n, 4) as x1, y1, x2, y2
            in pixels, ``labels`` (n,) as category ids, and ``scores`` (n,). Other images do not count.
        library: ``pycocotools`` or ``faster_coco_eval``; by default the latter if it is installed: same numbers,
            faster.

    Raises:
        ConfigError: another library, or one that is not installed.
    """
    results = [row for number, boxes in detections.items() for row in _rows(number, boxes)]
    with redirect_stdout(StringIO()):  # both print their progress
        evaluation = _EVALUATIONS[check_library(library)](coco, results)
        evaluation.params.imgIds = sorted(detections)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values: Sequence[float] = evaluation.stats[: len(NAMES)]
    percent = {
        name: float("nan") if value < 0 else 100 * float(value) for name, value in zip(NAMES, values, strict=True)
    }
    return AveragePrecision(**percent, images=len(detections), by_class=_by_class(evaluation))


def check_library(library: str | None = None) -> str:
    """Return the library that average precision is computed with.

    Raises:
        ConfigError: it is unknown or not installed.
    """
    if library is None:
        return "faster_coco_eval" if find_spec("faster_coco_eval") else "pycocotools"
    if library not in _EVALUATIONS or not find_spec(library):
        raise ConfigError(
            f"library {library!r} is not installed; give {' or '.join(_EVALUATIONS)} (`pip install faster-coco-eval`)"
        )
    return library


def _pycocotools(coco: COCO, results: list[dict[str, Any]]) -> Any:
    # loadRes needs at least one detection, but no detection is a valid result.
    return COCOeval(coco, coco.loadRes(results) if results else COCO(), "bbox")


def _faster_coco_eval(coco: COCO, results: list[dict[str, Any]]) -> Any:
    import faster_coco_eval

    truth = faster_coco_eval.COCO(coco.dataset)
    detections = truth.loadRes(results) if results else faster_coco_eval.COCO()
    return faster_coco_eval.COCOeval_faster(truth, detections, "bbox", print_function=lambda *_: None)


_EVALUATIONS = {"pycocotools": _pycocotools, "faster_coco_eval": _faster_coco_eval}


def _by_class(evaluation: Any) -> dict[int, float]:
    """Return category id -> mean precision over IoUs and recalls, for all box sizes and most detections per image."""
    precision: np.ndarray[Any, Any] = evaluation.eval["precision"][:, :, :, 0, -1]
    means = {number: precision[:, :, index] for index, number in enumerate(evaluation.params.catIds)}
    return {int(number): 100 * float(values.mean()) for number, values in means.items() if (values > -1).all()}


def _rows(number: int, detections: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    boxes = detections["boxes"].detach().cpu().double().reshape(-1, 4).numpy().copy()
    boxes[:, 2:] -= boxes[:, :2]  # COCO has width and height
    return [
        {"image_id": number, "category_id": label, "bbox": box, "score": score}
        for box, label, score in zip(
            boxes.tolist(), detections["labels"].tolist(), detections["scores"].tolist(), strict=True
        )
    ]
