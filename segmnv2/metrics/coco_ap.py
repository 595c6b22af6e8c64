"""COCO's average precision, by pycocotools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
"""The first six of COCO's twelve measures, in its order."""


@dataclass(frozen=True)
class AveragePrecision:
    """Average precisions in percent; NaN where there is no box to find.

    Attributes:
        ap: mean over IoUs of 0.5 to 0.95.
        ap50: at an IoU of 0.5.
        ap75: at 0.75.
        ap_small: as ``ap``, of boxes below 32 x 32 pixels.
        ap_medium: of those below 96 x 96.
        ap_large: of larger ones.
        images: number of images.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    images: int


def coco_ap(coco: COCO, detections: Mapping[int, Mapping[str, Tensor]]) -> AveragePrecision:
    """Compare detections with COCO's annotations of the same images.

    Args:
        coco: the annotations.
        detections: image id -> ``boxes`` (n, 4) as x1, y1, x2, y2 in pixels of the image, ``labels`` (n,) as category
            ids and ``scores`` (n,), as torchvision's detectors return them. Images that are not in it do not count.
    """
    results = [row for number, found in detections.items() for row in _rows(number, found)]
    with redirect_stdout(StringIO()):  # pycocotools prints what it does
        # Without a single detection there is nothing to load, and nothing found is no error.
        evaluation = COCOeval(coco, coco.loadRes(results) if results else COCO(), "bbox")
        evaluation.params.imgIds = sorted(detections)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values: Sequence[float] = evaluation.stats[: len(NAMES)]
    percent = {
        name: float("nan") if value < 0 else 100 * float(value) for name, value in zip(NAMES, values, strict=True)
    }
    return AveragePrecision(**percent, images=len(detections))


def _rows(number: int, found: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    boxes = found["boxes"].detach().cpu().double().reshape(-1, 4).numpy().copy()
    boxes[:, 2:] -= boxes[:, :2]  # COCO has width and height
    return [
        {"image_id": number, "category_id": label, "bbox": box, "score": score}
        for box, label, score in zip(boxes.tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True)
    ]
