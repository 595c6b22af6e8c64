from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from segmnv2.benchmark.compare import Rate
from segmnv2.benchmark.training_speed import WARM_UP, benchmark_training, first_batch, measure_steps, verdict
from segmnv2.config.reading import parse_experiment
from segmnv2.config.segmentation_schema import Experiment
from segmnv2.datasets.dataset_kinds import open_dataset
from segmnv2.errors import ConfigError
from segmnv2.tasks.segmentation import SegmentationTask, build_model
from segmnv2.training.run import train


def tiny(*overrides: str) -> Experiment:
    """Return an experiment with equal batches: one image of the crop's size, neither scaled nor mirrored."""
    shapes = {"kind": "shapes", "length": 1, "size": 33}
    data = {"train": shapes, "val": shapes, "crop_size": 33, "scales": [1.0], "flip": 0, "batch_size": 2}
    values = {"name": "tiny", "model": {"width": 0.35}, "steps": 5, "device": "cpu", "log": {"every": 1}}
    return parse_experiment({**values, "data": {**data, "num_workers": 0}}, overrides)


def test_table_and_json_have_three_positive_rows() -> None:
    table = benchmark_training(tiny(), steps=2)
    assert [row.name for row in table.rows] == ["step alone", "loader, 0 workers", "step and loader together"]
    written = json.loads(json.dumps(table.to_dict()))
    assert written["verdict"] == list(table.verdict)
    for row, values in zip(table.rows, written["rows"], strict=True):
        assert values["name"] == row.name
        assert values["images_per_second"] == row.rate.median > 0
        assert values["measurements"] == list(row.rate.values)
        assert len(row.rate.values) == 2
        assert np.isfinite(row.rate.values).all()
        assert f"| {row.name} | {row.rate.median:.4g} |" in table.to_markdown()
    assert "MB" in table["step alone"].note


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("optimizer.accumulate=2",),
        ("optimizer.warmup_steps=2", "loss.dice=1", "average={decay: 0.9}", "channels_last=false"),
    ],
)
@pytest.mark.parametrize("fixed", [True, False])
def test_measured_steps_have_the_losses_of_a_run(tmp_path: Path, overrides: tuple[str, ...], fixed: bool) -> None:
    experiment = tiny(f"steps={WARM_UP + 2}", *overrides)
    dataset = open_dataset(experiment.data.train)
    batch = first_batch(experiment, dataset) if fixed else None
    losses = measure_steps(experiment, dataset, steps=2, batch=batch).losses
    train(experiment, out=tmp_path / "run", report=lambda _: None)
    with (tmp_path / "run" / "metrics.csv").open() as file:
        logged = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert logged == pytest.approx(losses, rel=1e-5)  # the file has six digits
    assert len(set(losses)) == WARM_UP + 2


def test_the_first_measured_step_has_the_loss_of_the_task() -> None:
    experiment = tiny()
    dataset = open_dataset(experiment.data.train)
    batch = first_batch(experiment, dataset)
    torch.manual_seed(experiment.seed)
    task = SegmentationTask(build_model(experiment.model, dataset.labels), experiment).train()
    task.on_train_batch_start(batch, 0)
    loss = task.training_step(batch, 0).item()
    assert measure_steps(experiment, dataset, steps=1, batch=batch).losses[0] == loss


def test_one_measurement_has_a_step_for_every_worker() -> None:
    experiment = tiny("data.num_workers=2")
    steps = measure_steps(experiment, open_dataset(experiment.data.train), steps=3)
    assert len(steps.rate.values) == 2


def test_initial_weights_are_not_read() -> None:
    experiment = tiny("model.weights=none.safetensors")
    assert measure_steps(experiment, open_dataset(experiment.data.train), steps=1).rate.median > 0


def test_zero_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="steps 0 "):
        benchmark_training(tiny(), steps=0)


@pytest.mark.parametrize(
    ("step", "loader", "both", "workers", "said"),
    [
        (10, 100, 9.8, 1, ("The step limits", "10.0 times", "crop_size")),
        (10, 4, 3.9, 1, ("The loader limits", "raise data.num_workers from 1 to 3")),
        (10, 4, 3.9, 0, ("The loader limits", "raise data.num_workers from 0 to 3")),
        (100, 4, 3.9, 2, ("The loader limits", "50 workers would be needed and there are 4 cores")),
        (10, 20, 6.5, 0, ("take turns", "from 0 to 1")),
        (10, 20, 6.5, 2, ("slow each other", "data.num_workers 1 and 3")),
    ],
)
def test_the_verdict_names_the_limit_and_the_remedy(
    step: float, loader: float, both: float, workers: int, said: tuple[str, ...]
) -> None:
    text = " ".join(verdict(Rate((step,)), Rate((loader,)), Rate((both,)), workers, cores=4))
    for part in said:
        assert part in text
