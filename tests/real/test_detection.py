"""Taps, boxes and strides are right if a detector can learn ten real images by heart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from segmnv2.data.coco_boxes import CocoBoxes
from segmnv2.detection import faster_rcnn, ssdlite
from segmnv2.metrics.coco_ap import coco_ap

IMAGES = 10
MOST_BOXES = 8


@pytest.fixture(scope="module")
def coco(shared: Path) -> CocoBoxes:
    return CocoBoxes.of_split(shared / "data" / "coco", "val2017")


def learn_by_heart(
    model: nn.Module, pictures: list[Tensor], targets: list[dict[str, Tensor]], lr: float, steps: int
) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1  # the networks' own would need thousands of steps
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    model.train()
    for _ in range(steps):
        loss = sum(model(pictures, targets).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    model.eval()


def build_ssdlite(weights: Path) -> nn.Module:
    return ssdlite(size=(256, 256), backbone_weights=weights)


def build_faster_rcnn(weights: Path) -> nn.Module:
    """With few proposals, as ten images have few boxes."""
    train = {"rpn_pre_nms_top_n_train": 200, "rpn_post_nms_top_n_train": 100, "box_batch_size_per_image": 32}
    test = {"rpn_pre_nms_top_n_test": 100, "rpn_post_nms_top_n_test": 50}
    return faster_rcnn(backbone_weights=weights, min_size=192, max_size=192, **train, **test)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "lr", "steps"),
    [(build_ssdlite, 0.002, 25), (build_faster_rcnn, 0.001, 20)],
    ids=["ssdlite", "faster_rcnn"],
)
def test_it_learns_ten_images_by_heart(
    coco: CocoBoxes, imagenet_weights: Path, build: Callable[[Path], nn.Module], lr: float, steps: int
) -> None:
    torch.manual_seed(0)
    few = [index for index in range(len(coco)) if 1 <= len(coco[index][1]["boxes"]) <= MOST_BOXES][:IMAGES]
    pictures, found = zip(*(coco[index] for index in few), strict=True)
    targets = [{"boxes": target["boxes"], "labels": target["labels"]} for target in found]
    model = build(imagenet_weights)
    learn_by_heart(model, list(pictures), targets, lr, steps)
    with torch.no_grad():
        detections = {target["image_id"]: model([picture])[0] for picture, target in zip(pictures, found, strict=True)}
    result = coco_ap(coco.coco, detections)
    print(result)
    assert result.images == IMAGES
    assert result.ap50 > 50


def test_every_box_lies_in_its_image_and_is_annotated(coco: CocoBoxes) -> None:
    assert len(coco) == 206
    assert len(coco.class_names) == 80
    boxes = 0
    for index in range(0, len(coco), 10):
        picture, target = coco[index]
        height, width = picture.shape[-2:]
        corners = target["boxes"]
        assert set(target["labels"].tolist()) <= set(coco.class_names)
        assert bool((corners[:, 2:] > corners[:, :2]).all())
        assert corners.numel() == 0 or (float(corners[:, 2].max()) <= width and float(corners[:, 3].max()) <= height)
        boxes += len(corners)
    assert boxes > 0


def test_the_truth_itself_has_an_ap_of_100_and_nothing_found_of_0(coco: CocoBoxes) -> None:
    truth, nothing = {}, {}
    for index in range(0, len(coco), 10):
        _, target = coco[index]
        scores = torch.ones(len(target["labels"]))
        truth[target["image_id"]] = {"boxes": target["boxes"], "labels": target["labels"], "scores": scores}
        empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
        nothing[target["image_id"]] = empty
    assert coco_ap(coco.coco, truth).ap == pytest.approx(100)
    assert coco_ap(coco.coco, nothing).ap == 0
