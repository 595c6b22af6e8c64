from __future__ import annotations

import csv
from pathlib import Path

import torch
from safetensors.torch import load_file

from segmnv2.datasets.dataset_kinds import open_dataset
from segmnv2.evaluation.segmenters import evaluate
from segmnv2.inference.predictor import Predictor
from segmnv2.models.model_file import load_model
from segmnv2.training.run import train
from tests.training.tiny import ignore, tiny

AVERAGE = ("average={decay: 0.9}", "steps=3")


def final(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "last.safetensors")


def test_saved_weights_are_the_moving_average(tmp_path: Path) -> None:
    plain = [
        final(train(tiny(f"steps={n}", "optimizer.power=0"), out=tmp_path / str(n), report=ignore).folder.path)
        for n in (1, 2, 3)
    ]
    experiment = tiny(*AVERAGE, "optimizer.power=0")
    averaged = final(train(experiment, out=tmp_path / "average", report=ignore).folder.path)
    for name, value in averaged.items():
        if not value.is_floating_point():
            continue
        expected = plain[0][name]
        for step, now in ((2, plain[1]), (3, plain[2])):
            decay = min(0.9, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * now[name]
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(averaged[name], plain[2][name]) for name in averaged)


def test_the_average_of_constant_weights_equals_them_to_the_bit(tmp_path: Path) -> None:
    averaged = final(train(tiny(*AVERAGE), out=tmp_path, report=ignore).folder.path)
    start = final(train(tiny("steps=1"), out=tmp_path / "one", report=ignore).folder.path)
    for name in ("pixel_mean", "pixel_std"):
        assert torch.equal(averaged[name], start[name])


def test_validation_uses_the_average_and_training_the_weights(tmp_path: Path) -> None:
    plain = train(tiny("steps=4"), out=tmp_path / "plain", report=ignore)
    averaged = train(tiny("average={decay: 0.9}", "steps=4"), out=tmp_path / "average", report=ignore)
    val = open_dataset(tiny().data.val)
    assert averaged.score == evaluate(Predictor(load_model(averaged.folder.last), size=49), val).miou

    def losses(folder: Path) -> list[str]:
        with (folder / "metrics.csv").open(newline="") as file:
            return [row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]]

    assert losses(plain.folder.path) == losses(averaged.folder.path)
