from __future__ import annotations

import copy
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from segmnv2.coco.boxes import CocoBoxes
from segmnv2.config.detection_schema import DetectionExperiment, DetectionOptimizerSection
from segmnv2.config.reading import parse_any_experiment, write_experiment
from segmnv2.detection.detector import create_detector, load_detector
from segmnv2.errors import ConfigError, DatasetError, SegmnError
from segmnv2.evaluation.detectors import evaluate_detector
from segmnv2.metrics.coco_ap import coco_ap
from segmnv2.models.model_file import read_model_file
from segmnv2.tasks.detection import detection_rate
from segmnv2.tasks.task import epoch_timing
from segmnv2.training.run import train
from tests.coco_files import write_coco_boxes
from tests.dataset_files import iterate
from tests.processes import run_command
from tests.training.tiny import ignore

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")

SECTION: dict[str, Any] = {
    "task": "detection",
    "name": "tiny",
    "model": {"width": 0.35, "size": 96, "norm_momentum": 0.1},
    "data": {
        "train": {"kind": "coco", "split": "train2017"},
        "val": {"kind": "coco", "split": "val2017"},
        "iou_crop": True,
        "batch_size": 2,
        "num_workers": 0,
    },
    "optimizer": {"lr": 0.01, "clip_norm": 10.0},
    "epochs": 1.0,
    "device": "cpu",
    "log": {"every": 1},
}


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("coco")
    write_coco_boxes(root, "train2017", images=8)
    return write_coco_boxes(root, "val2017", images=3)


def tiny(root: Path, *overrides: str) -> DetectionExperiment:
    values = copy.deepcopy(SECTION)
    values["data"]["train"]["root"] = values["data"]["val"]["root"] = str(root)
    experiment = parse_any_experiment(values, overrides)
    assert isinstance(experiment, DetectionExperiment)
    return experiment


def test_a_run_writes_a_detector_with_the_reported_score(coco: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    result = train(tiny(coco), out=tmp_path / "run", report=lines.append)
    assert (result.steps, result.score_name) == (4, "AP")
    assert "ssdlite on mobilenet_v2, width 0.35, output stride 32, 2 classes" in lines[0]
    assert "8 images (coco) to train, 3 (coco) to validate" in lines[1]
    assert "4 steps of 2 images at 96x96" in lines[2]
    model = load_detector(result.folder.last)
    assert dict(model.class_names) == {1: "square", 3: "oblong"}
    data = CocoBoxes.of_split(coco, "val2017")
    with torch.inference_mode():
        found = {target["image_id"]: model([image])[0] for image, target in iterate(data)}
    assert result.score == pytest.approx(coco_ap(data.coco, found).ap, abs=1e-4)
    assert "val/ap50" in result.folder.metrics.read_text().splitlines()[0]


def test_a_resumed_run_equals_an_uninterrupted_one(coco: Path, tmp_path: Path) -> None:
    whole = train(tiny(coco, "validation.every=0.5"), out=tmp_path / "whole", report=ignore)

    def stop(line: str) -> None:
        if line.startswith("step 3/4: loss"):
            raise KeyboardInterrupt

    broken = tiny(coco, "validation.every=0.5")
    with pytest.raises(KeyboardInterrupt):
        train(broken, out=tmp_path / "broken", report=stop)
    again = train(broken, out=tmp_path / "broken", resume="last", report=ignore)
    one, other = (load_detector(run.folder.last).state_dict() for run in (whole, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_image_whose_box_gives_an_infinite_loss_is_named(coco: Path, tmp_path: Path) -> None:
    with pytest.raises(SegmnError, match=r"its batch holds 0000.*If their boxes are right, lower optimizer.lr"):
        train(tiny(coco, "optimizer.lr=1e30", "optimizer.clip_norm=null"), out=tmp_path / "run", report=ignore)


def test_data_sets_need_boxes_and_the_same_categories(coco: Path, tmp_path: Path) -> None:
    other = write_coco_boxes(tmp_path / "other", "val2017")
    path = other / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text().replace('"square"', '"round"'))
    with pytest.raises(ConfigError, match="1 round, 1 square are in one of them only"):
        train(tiny(coco, f"data.val.root={other}"), out=tmp_path / "run", report=ignore)
    path.write_text(path.read_text().replace('"iscrowd": 0', '"iscrowd": 1'))
    places = (f"data.train.root={other}", "data.train.split=val2017", f"data.val.root={other}")
    with pytest.raises(DatasetError, match=r"no image of data\.train has a box"):
        train(tiny(coco, *places), out=tmp_path / "run", report=ignore)
    data = CocoBoxes.of_split(other, "val2017")
    with pytest.raises(DatasetError, match="no box within its images except crowds"):
        evaluate_detector(create_detector("ssdlite", class_names=data.class_names), data)
    path.write_text(path.read_text().replace('"round"', '"square"'))
    with pytest.raises(DatasetError, match=r"other.*has no box within its images except crowds"):
        train(tiny(coco, f"data.val.root={other}"), out=tmp_path / "run", report=ignore)
    with pytest.raises(DatasetError, match=r"does not exist.*\n.*key data\.train\.root"):
        train(tiny(tmp_path / "nowhere"), out=tmp_path / "run", report=ignore)


def test_a_limit_that_leaves_no_box_to_find_is_refused(coco: Path, tmp_path: Path) -> None:
    other = write_coco_boxes(tmp_path / "other", "val2017")
    path = other / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] != 0]
    path.write_text(json.dumps(content))
    data = CocoBoxes.of_split(other, "val2017")
    detector = create_detector("ssdlite", size=96, class_names=data.class_names, backbone_options={"width": 0.35})
    message = "has no box within its images except crowds in the 1 image to measure on"
    with pytest.raises(DatasetError, match=message):
        evaluate_detector(detector, data, limit=1)
    with pytest.raises(DatasetError, match=message):
        train(tiny(coco, f"data.val.root={other}", "validation.limit=1"), out=tmp_path / "run", report=ignore)
    assert evaluate_detector(detector, data, limit=2).precision.images == 2


def test_keys_that_are_not_possible_are_named(coco: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny(coco, "model.options={nms: 1}", "optimizer.milestones=[3]", "compile=true", "epochs=0")
    message = str(caught.value)
    assert "4 faults" in message
    assert "options: ssdlite has no nms; it has score_thresh" in message
    assert "schedule 'steps' needs milestones" in message
    with pytest.raises(ConfigError, match=r"options: score_thresh is 'high'; give a number"):
        tiny(coco, "model.options={score_thresh: high}")


def test_the_learning_rate_falls_along_a_cosine_or_at_milestones() -> None:
    cosine = DetectionOptimizerSection(warmup_steps=4)
    rates = [detection_rate(step, cosine, steps=100, per_epoch=10) for step in range(101)]
    assert rates[0] == pytest.approx(0.25)
    assert rates[50] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0)
    assert all(later <= earlier for earlier, later in pairwise(rates[3:]))
    steps = DetectionOptimizerSection(schedule="steps", milestones=(2.0, 3.0), factor=0.1)
    rates = [detection_rate(step, steps, steps=40, per_epoch=10) for step in (0, 19, 20, 29, 30, 39)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_epochs_count_only_images_with_boxes(coco: Path) -> None:
    timing = epoch_timing(tiny(coco, "epochs=3", "validation.every=0.5"), images=8)
    assert (timing.steps, timing.validate_every) == (12, 2)


@pytest.mark.slow
def test_two_processes_gather_their_detections(coco: Path, tmp_path: Path) -> None:
    """Two processes validate three images; their common result equals that of one evaluation."""
    write_experiment(tmp_path / "tiny.yaml", tiny(coco, "optimizer.lr=0.05", "epochs=3", "validation.every=3"))
    words = ["train", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "run")]
    assert "2 processes on 1 machine(s)" in run_command(words, tmp_path / "printed", processes=2)
    last = tmp_path / "run" / "last.safetensors"
    data = CocoBoxes.of_split(coco, "val2017")
    result = evaluate_detector(load_detector(last), data)
    assert result.precision.images == 3
    assert result.precision.ap > 0
    assert read_model_file(last)[1]["provenance"]["val_ap"] == pytest.approx(result.precision.ap, abs=1e-6)
