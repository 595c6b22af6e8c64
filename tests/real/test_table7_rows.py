"""Rows of Table 7: their configs are trained for two steps and evaluated on real VOC images."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch

from segmnv2.cli import main
from segmnv2.config.reading import load_experiment
from segmnv2.labels import VOC_LABELS
from segmnv2.models.model_file import load_model, save_model
from segmnv2.models.zoo import create_model
from segmnv2.paper.table7 import TABLE7, table7
from tests.marks import slow_where

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FAST = "deeplabv3_mobilenet_v2"
MODELS = slow_where(lambda model: model != FAST, sorted({row.model for row in TABLE7}))
SHORT = ("steps=2", "data.batch_size=2", "data.crop_size=97", "data.num_workers=0", "log.every=1", "device=cpu")
VALIDATION = ("validation.size=97", "validation.limit=1")


def config_of(model: str) -> Path:
    return CONFIGS / f"voc_coco_{model.removeprefix('deeplabv3_')}_stride16.yaml"


@pytest.fixture(scope="module", params=MODELS)
def trained(
    request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Path]:
    """Return the name of a model, the file of its initial weights, and the folder of its run."""
    name, folder = request.param, tmp_path_factory.mktemp("row")
    start = save_model(folder / "coco.safetensors", create_model(name, labels=VOC_LABELS))
    root = shared / "data" / "VOCdevkit"
    places = [f"model.weights={start}", *(f"data.{part}.root={root}" for part in ("train", "val"))]
    overrides = [word for override in (*SHORT, *VALIDATION, *places) for word in ("-o", override)]
    assert main(["train", str(config_of(name)), "--out", str(folder / "run"), *overrides]) == 0
    return name, start, folder / "run"


def test_two_steps_of_the_experiment_change_the_model(trained: tuple[str, Path, Path]) -> None:
    name, start, run = trained
    with (run / "metrics.csv").open(newline="") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    before, after = load_model(start), load_model(run / "last.safetensors")
    moved = [key for key, value in before.named_parameters() if not torch.equal(value, after.get_parameter(key))]
    assert len(moved) > 0.9 * len(list(before.parameters()))
    assert load_experiment(run / "config.yaml").model.name == name


def test_each_row_of_a_model_is_evaluated_on_real_images(
    trained: tuple[str, Path, Path], shared: Path, tmp_path: Path
) -> None:
    name, _, run = trained
    rows = [row for row, paper in zip(table7(), TABLE7, strict=True) if paper.model == name]
    assert len(rows) == 2
    for row in rows:
        out = tmp_path / f"{row.output_stride}.json"
        words = ["evaluate", str(run / "last.safetensors"), "--dataset", "voc", "--limit", "2", "--size", "97"]
        words += ["--root", str(shared / "data" / "VOCdevkit"), "--output-stride", str(row.output_stride)]
        words += ["--json", str(out), *(["--multi-scale", "--flip"] if row.mf else [])]
        assert main(words) == 0
        result = json.loads(out.read_text())
        assert result["network"]["parameters"] == row.params
        assert result["protocol"]["output_stride"] == row.output_stride
        assert len(result["protocol"]["scales"]) == (6 if row.mf else 1)
        assert result["images"] == 2
        assert sum(map(sum, result["confusion"])) > 0
        assert 0 <= result["miou"] <= 100
