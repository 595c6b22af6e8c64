"""``evaluate --dataset coco`` and ``infer`` with a detector's weights."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segmnv2.cli import main
from segmnv2.detection.detector import create_detector, save_detector
from segmnv2.models.model_file import save_model
from segmnv2.models.zoo import create_model
from tests.coco_files import CATEGORIES, SIDE, write_coco_boxes

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("detector")
    write_coco_boxes(root / "coco")
    options: dict[str, Any] = {"size": SIDE, "backbone_options": {"width": 0.35}}
    save_detector(root / "d.safetensors", create_detector("ssdlite", class_names=CATEGORIES, **options))
    save_detector(root / "other.safetensors", create_detector("ssdlite", class_names={1: "round"}, **options))
    save_model(root / "voc.safetensors", create_model("deeplabv3_mobilenet_v2", width=0.35))
    return root


def evaluate(folder: Path, *options: str, weights: str = "d", dataset: str = "coco") -> int:
    return main(["evaluate", str(folder / f"{weights}.safetensors"), "--dataset", dataset, *options])


def test_evaluate_prints_a_table_and_writes_figures_and_boxes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--json", str(tmp_path / "r.json"), "--detections-out", str(tmp_path / "d.json")]
    assert evaluate(folder, "--root", str(folder / "coco"), *files) == 0
    printed = capsys.readouterr().out
    assert "| oblong |" in printed
    assert "4 images." in printed
    values = json.loads((tmp_path / "r.json").read_text())
    assert values["classes"].keys() == {"square", "oblong"}
    assert (values["images"], values["protocol"]["split"]) == (4, "val2017")
    assert (values["network"]["detector"], values["network"]["size"]) == ("ssdlite", SIDE)
    assert {row["category_id"] for row in json.loads((tmp_path / "d.json").read_text())} <= {1, 3}
    with redirect_stdout(StringIO()):  # the written boxes are what pycocotools reads, and say the same
        truth = COCO(str(folder / "coco" / "annotations" / "instances_val2017.json"))
        check = COCOeval(truth, truth.loadRes(str(tmp_path / "d.json")), "bbox")
        check.evaluate()
        check.accumulate()
        check.summarize()
    assert values["ap"] == pytest.approx(100 * check.stats[0], abs=1e-6)


def test_evaluate_accepts_custom_boxes_and_a_limit(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["--root", str(folder / "coco" / "val2017")]
    own += ["--annotations", str(folder / "coco" / "annotations" / "instances_val2017.json")]
    assert evaluate(folder, *own, "--limit", "2", "--json", str(tmp_path / "r.json")) == 0
    assert "2 images." in capsys.readouterr().out
    assert json.loads((tmp_path / "r.json").read_text())["protocol"]["annotations"] == own[3]


@pytest.mark.parametrize(
    ("options", "weights", "message"),
    [
        ([], "d", "--root is missing; --dataset coco needs the folder of the data set"),
        (["--root", "COCO", "--flip", "--size", "33"], "d", "--size, --flip: detectors have no such option"),
        (["--root", "COCO", "--split", "x"], "d", "x: does not exist"),
        (["--root", "COCO", "--split", "x", "--annotations", "COCO"], "d", "both are given"),
        (["--root", "COCO", "--limit", "0"], "d", "limit 0 is not positive"),
        (["--root", "COCO"], "voc", "holds a model, not a detector"),
        (["--root", "COCO"], "other", "1 round, 1 square, 3 oblong are in one of them only"),
    ],
)
def test_wrong_options_of_evaluate_are_reported(
    folder: Path, options: list[str], weights: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [str(folder / "coco") if word == "COCO" else word for word in options]
    assert evaluate(folder, *options, weights=weights) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_segmentation_models_refuse_options_of_boxes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(folder, "--detections-out", "d.json", weights="voc", dataset="shapes") == 2
    assert "--detections-out: segmentation models have no such option" in capsys.readouterr().err


def infer(folder: Path, out: Path, *options: str, weights: str = "d") -> int:
    inputs = ["infer", str(folder / "coco" / "val2017"), "--weights", str(folder / f"{weights}.safetensors")]
    return main([*inputs, "--out", str(out), *options])


def test_infer_writes_boxes_and_overlays(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert infer(folder, tmp_path, "--threshold", "0.01") == 0
    assert "4 written" in capsys.readouterr().out
    assert len(list((tmp_path / "overlays").glob("*.jpg"))) == 4
    boxes = json.loads((tmp_path / "boxes" / f"{0:012}.json").read_text())["boxes"]
    assert {each["name"] for each in boxes} <= set(CATEGORIES.values())
    assert infer(folder, tmp_path / "bare", "--no-overlay") == 0
    assert [path.name for path in (tmp_path / "bare").glob("[!.]*")] == ["boxes"]


@pytest.mark.parametrize(
    ("options", "weights", "message"),
    [
        (["--multi-scale", "--opacity", "0"], "d", "--opacity, --multi-scale: detectors have no such option"),
        (["--threshold", "7"], "d", "threshold: 7.0 is not in 0..1"),
        (["--threshold", "0.5"], "voc", "--threshold: segmentation models have no such option"),
    ],
)
def test_wrong_options_of_infer_are_reported(
    folder: Path, tmp_path: Path, options: list[str], weights: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infer(folder, tmp_path / "out", *options, weights=weights) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
