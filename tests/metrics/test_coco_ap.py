from __future__ import annotations

import math
from contextlib import redirect_stdout
from io import StringIO

import pytest
import torch
from pycocotools.coco import COCO
from torch import Tensor

from segmnv2.errors import ConfigError
from segmnv2.metrics import coco_ap as module
from segmnv2.metrics.coco_ap import check_library, coco_ap

BOX = [10.0, 10.0, 110.0, 130.0]


def annotated() -> COCO:
    """One large box in each of two images."""
    coco = COCO()
    x1, y1, x2, y2 = BOX
    coco.dataset = {
        "images": [{"id": number, "height": 200, "width": 200} for number in (1, 2)],
        "categories": [{"id": 5, "name": "bus"}],
        "annotations": [
            {
                "id": number,
                "image_id": number,
                "category_id": 5,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
            }
            for number in (1, 2)
        ],
    }
    with redirect_stdout(StringIO()):
        coco.createIndex()
    return coco


def found(*boxes: list[float], label: int = 5) -> dict[str, Tensor]:
    count = len(boxes)
    scores = torch.linspace(0.9, 0.5, count) if count else torch.zeros(0)
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.full((count,), label), "scores": scores}


@pytest.fixture(params=["pycocotools", "faster_coco_eval"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run each test with both libraries."""
    name: str = request.param
    monkeypatch.setattr(module, "find_spec", lambda asked: asked == name)
    assert check_library() == name
    return name


def test_true_boxes_score_100_and_no_boxes_score_0(capsys: pytest.CaptureFixture[str]) -> None:
    result = coco_ap(annotated(), {1: found(BOX), 2: found(BOX)})
    assert [result.ap, result.ap50, result.ap_large] == pytest.approx([100] * 3)
    assert math.isnan(result.ap_small)
    assert result.images == 2
    assert coco_ap(annotated(), {1: found(), 2: found()}).ap == 0
    assert capsys.readouterr().out == ""


def test_half_of_the_boxes_score_half() -> None:
    """Recall reaches 0.5; pycocotools samples it at 101 points, 51 of them up to 0.5."""
    result = coco_ap(annotated(), {1: found(BOX), 2: found()})
    assert result.ap50 == pytest.approx(100 * 51 / 101)


def test_an_iou_of_0_6_counts_at_0_5_and_not_at_0_75() -> None:
    low = [10.0, 10.0, 110.0, 82.0]  # 72 of the 120 rows
    result = coco_ap(annotated(), {1: found(low), 2: found(low)})
    assert result.ap50 == pytest.approx(100)
    assert result.ap75 == 0
    assert result.ap == pytest.approx(100 * 3 / 10)  # at 0.5, 0.55 and 0.6


def test_images_without_detections_do_not_count_and_labels_matter() -> None:
    assert coco_ap(annotated(), {1: found(BOX)}).ap == pytest.approx(100)
    assert coco_ap(annotated(), {1: found(BOX, label=6)}).ap == 0


def test_each_class_has_its_own_precision(library: str) -> None:
    coco = annotated()
    coco.dataset["categories"] += [{"id": 6, "name": "car"}, {"id": 7, "name": "cat"}]
    coco.dataset["annotations"][1]["category_id"] = 6
    with redirect_stdout(StringIO()):
        coco.createIndex()
    result = coco_ap(coco, {1: found(BOX), 2: found([0.0, 0.0, 9.0, 9.0], label=6)}, library=library)
    assert result.by_class == {5: pytest.approx(100), 6: 0}
    assert result.ap == pytest.approx(50)


def test_a_missing_library_is_rejected(library: str) -> None:
    other = {"pycocotools": "faster_coco_eval", "faster_coco_eval": "pycocotools"}[library]
    for name in (other, "torchmetrics"):
        with pytest.raises(ConfigError, match=f"'{name}' is not installed; give pycocotools or faster_coco_eval"):
            check_library(name)
