"""Detectors on real images of COCO; overfitting a few images shows that boxes and strides are right."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn

from segmnv2.cli import main
from segmnv2.coco.boxes import CocoBoxes
from segmnv2.detection import faster_rcnn, ssdlite
from segmnv2.metrics.coco_ap import NAMES, coco_ap
from segmnv2.models.model_file import read_model_file

IMAGES = 10
MOST_BOXES = 8


@pytest.fixture(scope="module")
def coco(shared: Path) -> CocoBoxes:
    return CocoBoxes.of_split(shared / "data" / "coco", "val2017")


def overfit(model: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]], lr: float, steps: int) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1  # the models' own momentum would need thousands of steps
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    model.train()
    for _ in range(steps):
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    model.eval()


def build_ssdlite(weights: Path) -> nn.Module:
    return ssdlite(size=(256, 256), backbone_weights=weights)


def build_faster_rcnn(weights: Path) -> nn.Module:
    """Build a detector with few proposals, because a few images have few boxes."""
    train: dict[str, Any] = {
        "rpn_pre_nms_top_n_train": 200,
        "rpn_post_nms_top_n_train": 100,
        "box_batch_size_per_image": 32,
    }
    test: dict[str, Any] = {"rpn_pre_nms_top_n_test": 100, "rpn_post_nms_top_n_test": 50}
    return faster_rcnn(backbone_weights=weights, min_size=192, max_size=192, **train, **test)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "lr", "steps"),
    [(build_ssdlite, 0.002, 25), (build_faster_rcnn, 0.001, 20)],
    ids=["ssdlite", "faster_rcnn"],
)
def test_detectors_overfit_a_few_images(
    coco: CocoBoxes, imagenet_weights: Path, build: Callable[[Path], nn.Module], lr: float, steps: int
) -> None:
    torch.manual_seed(0)
    few = [index for index in range(len(coco)) if 1 <= len(coco[index][1]["boxes"]) <= MOST_BOXES][:IMAGES]
    images, found = zip(*(coco[index] for index in few), strict=True)
    targets = [{"boxes": target["boxes"], "labels": target["labels"]} for target in found]
    model = build(imagenet_weights)
    overfit(model, list(images), targets, lr, steps)
    with torch.no_grad():
        detections = {target["image_id"]: model([image])[0] for image, target in zip(images, found, strict=True)}
    result = coco_ap(coco.coco, detections)
    print(result)
    assert result.images == IMAGES
    assert result.ap50 > 50


def test_every_box_is_in_its_image_and_has_a_known_class(coco: CocoBoxes) -> None:
    assert len(coco) == 206
    assert len(coco.class_names) == 80
    boxes = 0
    for index in range(0, len(coco), 10):
        image, target = coco[index]
        height, width = image.shape[-2:]
        corners = target["boxes"]
        assert set(target["labels"].tolist()) <= set(coco.class_names)
        assert bool((corners[:, 2:] > corners[:, :2]).all())
        assert corners.numel() == 0 or (float(corners[:, 2].max()) <= width and float(corners[:, 3].max()) <= height)
        boxes += len(corners)
    assert boxes > 0


def test_true_boxes_have_an_ap_of_100_and_no_boxes_of_0(coco: CocoBoxes) -> None:
    truth, nothing = {}, {}
    for index in range(0, len(coco), 10):
        _, target = coco[index]
        scores = torch.ones(len(target["labels"]))
        truth[target["image_id"]] = {"boxes": target["boxes"], "labels": target["labels"], "scores": scores}
        empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
        nothing[target["image_id"]] = empty
    assert coco_ap(coco.coco, truth).ap == pytest.approx(100)
    assert coco_ap(coco.coco, nothing).ap == 0


def disturbed_truth(coco: CocoBoxes) -> dict[int, dict[str, Tensor]]:
    """Return two detections of each box with random offsets and scores; the second one has a larger offset."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for index in range(len(coco)):
        _, target = coco.read(index)
        boxes, labels = target["boxes"], target["labels"]
        noise = 6 * torch.randn(boxes.shape, generator=generator)
        moved = torch.cat([boxes + noise, boxes + 3 * noise])
        scores = torch.rand(len(moved), generator=generator)
        found[target["image_id"]] = {"boxes": moved, "labels": labels.repeat(2), "scores": scores}
    return found


def image_by_image(coco: COCO, found: dict[int, dict[str, Tensor]]) -> list[float]:
    """Return average precisions by the method of torchvision's reference, which evaluates each image alone."""
    evaluation = COCOeval(coco, iouType="bbox")
    parts = []
    for number in sorted(found):
        boxes = torchvision.ops.box_convert(found[number]["boxes"], "xyxy", "xywh").tolist()
        labels, scores = found[number]["labels"].tolist(), found[number]["scores"].tolist()
        rows = [
            {"image_id": number, "category_id": label, "bbox": box, "score": score}
            for box, label, score in zip(boxes, labels, scores, strict=True)
        ]
        evaluation.cocoDt = coco.loadRes(rows) if rows else COCO()
        evaluation.params.imgIds = [number]
        evaluation.evaluate()
        areas = len(evaluation.params.areaRng)
        parts.append(np.array(evaluation.evalImgs, dtype=object).reshape(-1, areas, 1))
    evaluation.evalImgs = list(np.concatenate(parts, axis=-1).flatten())
    evaluation.params.imgIds = sorted(found)
    evaluation._paramsEval = copy.deepcopy(evaluation.params)
    evaluation.accumulate()
    evaluation.summarize()
    return [100 * value for value in evaluation.stats[:6]]


@pytest.fixture(scope="module")
def disturbed(coco: CocoBoxes) -> tuple[dict[int, dict[str, Tensor]], list[float]]:
    """Return detections and their average precisions by torchvision's reference."""
    found = disturbed_truth(coco)
    with contextlib.redirect_stdout(io.StringIO()):
        return found, image_by_image(coco.coco, found)


@pytest.mark.parametrize("library", ["pycocotools", "faster_coco_eval"])
def test_average_precision_equals_torchvisions_reference(
    coco: CocoBoxes, disturbed: tuple[dict[int, dict[str, Tensor]], list[float]], library: str
) -> None:
    found, expected = disturbed
    result = coco_ap(coco.coco, found, library=library)
    assert 20 < result.ap < 50, "detections must be neither perfect nor useless"
    # Our boxes are exact doubles; torchvision's are floats until pycocotools reads them.
    assert [getattr(result, name) for name in NAMES] == pytest.approx(expected, abs=1e-3)


def write_subset(root: Path, source: Path, images: int) -> Path:
    """Write a data set with links to the first images of ``val2017``, and return its root."""
    content = json.loads((source / "annotations/instances_val2017.json").read_text())
    content["images"] = content["images"][:images]
    kept = {image["id"]: image["file_name"] for image in content["images"]}
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] in kept]
    for folder in ("annotations", "val2017"):
        (root / folder).mkdir(parents=True)
    (root / "annotations/instances_val2017.json").write_text(json.dumps(content))
    for name in kept.values():
        (root / "val2017" / name).symlink_to((source / "val2017" / name).resolve())
    return root


@pytest.mark.parametrize(
    ("images", "labeled", "epochs", "steps"),
    [(8, 8, 1, 2), pytest.param(206, 204, 0.06, 3, marks=pytest.mark.slow)],
    ids=["few", "all"],
)
def test_the_shipped_config_trains_and_evaluates_on_real_images(
    shared: Path,
    imagenet_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    images: int,
    labeled: int,
    epochs: float,
    steps: int,
) -> None:
    """Train for a few steps and evaluate all images, with the commands."""
    root = write_subset(tmp_path / "coco", shared / "data" / "coco", images)
    places = [f"data.train={{kind: coco, root: {root}, split: val2017}}", f"data.val.root={root}"]
    short = [f"epochs={epochs}", "data.batch_size=4", "data.num_workers=0", "validation.limit=4"]
    options = [*places, *short, f"model.backbone_weights={imagenet_weights}", "device=cpu"]
    config = str(Path(__file__).parents[2] / "configs" / "coco_ssdlite_mobilenet_v2.yaml")
    words = [word for option in options for word in ("-o", option)]
    assert main(["train", config, "--out", str(tmp_path / "run"), *words]) == 0
    assert f"{labeled} images (coco) to train, 4 (coco) to validate" in capsys.readouterr().out
    weights = tmp_path / "run" / "last.safetensors"
    assert read_model_file(weights)[1]["provenance"]["step"] == steps
    found = tmp_path / "r.json"
    assert main(["evaluate", str(weights), "--dataset", "coco", "--root", str(root), "--json", str(found)]) == 0
    values = json.loads(found.read_text())
    assert (values["images"], len(values["classes"])) == (images, 80)
    assert 0 <= values["ap"] < 5, "a few steps must leave the AP near 0"
