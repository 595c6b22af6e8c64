"""Speed of training steps as in a run, and the part that limits it: the step or the loader."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segmnv2.benchmark.compare import Rate, Row, Table, check_count
from segmnv2.benchmark.data import loader_name, measure_loader
from segmnv2.benchmark.machine import core_count, describe_experiment, describe_machine, forget_peak_memory, peak_memory
from segmnv2.config.segmentation_schema import Experiment
from segmnv2.data.loader import Batch, training_loader
from segmnv2.data.sample import Sample, SegmentationDataset
from segmnv2.data.transforms import TrainTransform
from segmnv2.datasets.dataset_kinds import open_dataset
from segmnv2.engines.pytorch import convolutions
from segmnv2.tasks.job import RunData
from segmnv2.tasks.optimizer import MovingAverage
from segmnv2.tasks.processes import Processes
from segmnv2.tasks.segmentation import SegmentationTask, build_model, build_transform
from segmnv2.training.logs import RunLog, StepLog
from segmnv2.training.progress_bar import quiet_lightning
from segmnv2.training.trainer import build_trainer, choose_accelerator, interruptible

WARM_UP = 3
"""Number of turns before the measurement, while libraries choose their algorithms and allocate memory."""


@dataclass(frozen=True)
class Steps:
    """Timed training steps.

    Attributes:
        rate: images per second, without the warm-up.
        losses: mean loss of each turn (one step per worker), including the warm-up.
        memory: peak memory in megabytes; on a CPU, that of the whole process. ``None`` if unknown.
    """

    rate: Rate
    losses: tuple[float, ...]
    memory: float | None


def measure_steps(
    experiment: Experiment, train_set: SegmentationDataset, *, steps: int, batch: Batch | None = None
) -> Steps:
    """Train for a few steps and time them, each from the request for its batch to the updated weights.

    The model starts from random weights, because the experiment's initial weights do not affect speed.

    Args:
        experiment: model, optimizer, precision, device, batch size and workers.
        train_set: its training set.
        steps: number of measured steps, rounded up to a multiple of the workers, after ``WARM_UP`` turns.
        batch: the batch of every step, to measure the step alone; by default batches come from the loader.

    Raises:
        ConfigError: the device does not exist.
        SegmnError: the data set is faulty, or the loss is not finite.
    """
    accelerator = choose_accelerator(experiment)
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    # Workers deliver batches at about the same moment, so the mean over a turn of all workers is more stable.
    turn = max(1, experiment.data.num_workers) if batch is None else 1
    turns = WARM_UP + -(-steps // turn)
    experiment = experiment.model_copy(update={"steps": turns * turn})
    torch.manual_seed(experiment.seed)
    model = build_model(experiment.model, train_set.labels, initial_weights=False)
    transform = build_transform(experiment, train_set.labels)
    batch = None if batch is None else change_tensors(batch, lambda tensor: tensor.to(device))
    data = TrainingBatches(train_set, transform, experiment, batch)
    log = EntryLog()
    forget_peak_memory(device)
    quieted, tuned = quiet_lightning(), convolutions(tuned=True)
    with quieted, tuned, interruptible(lambda: None), tempfile.TemporaryDirectory() as folder:
        warnings.filterwarnings("ignore", message=".*Total length of `list` across ranks is zero.*")  # no validation
        average = [MovingAverage(experiment.average.decay)] if experiment.average else []
        callbacks = [*average, StepLog(turn)]
        task = SegmentationTask(model, experiment)
        trainer = build_trainer(experiment, Path(folder), accelerator, task.timing, Processes(), [log], callbacks)
        trainer.fit(task, datamodule=data)
    rates = tuple(entry["train/images_per_second"] for entry in log.entries)
    losses = tuple(entry["train/loss"] for entry in log.entries)
    return Steps(Rate(rates[WARM_UP:]), losses, peak_memory(device))


def part_size(experiment: Experiment) -> int:
    """Return the number of crops that are computed at once: those of a batch, or of a part of it.

    Raises:
        ConfigError: the batch cannot be divided evenly.
    """
    return Processes().share(experiment.data.batch_size, experiment.optimizer.accumulate)


def first_batch(experiment: Experiment, train_set: SegmentationDataset) -> Batch:
    """Return the first batch of training, or its first part."""
    transform = build_transform(experiment, train_set.labels)
    loader = training_loader(train_set, transform, batch_size=part_size(experiment), seed=experiment.seed)
    batch: Batch = next(iter(loader))
    return batch


class TrainingBatches(RunData[Sample]):
    """The data of a run without validation: the loader's batches, or one batch that is repeated forever."""

    def __init__(
        self, train: SegmentationDataset, transform: TrainTransform, experiment: Experiment, batch: Batch | None
    ) -> None:
        super().__init__(train, train, transform, experiment)
        self.batch = batch

    def train_dataloader(self) -> Any:
        """Return the endless loader of the run, or the repeated batch."""
        return super().train_dataloader() if self.batch is None else repeat(self.batch)

    def val_dataloader(self) -> Any:
        """Return an empty list, because there is no validation."""
        return []


class EntryLog(RunLog):
    """Keeps the logged values of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[dict[str, float]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep the values of a step."""
        self.entries.append(dict(metrics))


def change_tensors(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """Return a batch whose pixels and masks are changed by a function."""
    return {"pixels": change(batch["pixels"]), "mask": change(batch["mask"]), "name": batch["name"]}


STEP, BOTH = "step alone", "step and loader together"

TIE = 0.9
"""Two speeds with at least this ratio count as equal, because speeds on a busy machine vary as much."""


def benchmark_training(experiment: Experiment, *, steps: int = 20) -> Table:
    """Measure the training step alone, the loader alone and both together, and report which one limits the speed.

    Args:
        experiment: the experiment; nothing is written or validated, and its initial weights are not read.
        steps: number of steps per measurement, after a warm-up.

    Raises:
        ConfigError: there are no steps, or the device does not exist.
        SegmnError: the data set is missing or faulty, or the loss is not finite.
    """
    check_count("steps", steps)
    accelerator = choose_accelerator(experiment)
    data = experiment.data
    train_set = open_dataset(data.train, "data.train")
    # The step is measured first, so that the memory peak of the process is that of the step.
    alone = measure_steps(experiment, train_set, steps=steps, batch=first_batch(experiment, train_set))
    loader = measure_loader(
        train_set,
        build_transform(experiment, train_set.labels),
        batch_size=part_size(experiment),
        seed=experiment.seed,
        num_workers=data.num_workers,
        batches=steps,
        pin_memory=accelerator == "gpu",
    )
    both = measure_steps(experiment, train_set, steps=steps)
    rows = (
        Row(STEP, alone.rate, _memory(alone, accelerator)),
        Row(loader_name(data.num_workers), loader, f"{loader.median / alone.rate.median:.2f} of the step's speed"),
        Row(BOTH, both.rate, f"{both.rate.median / alone.rate.median:.2f} of the step's speed"),
    )
    device = "cuda" if accelerator == "gpu" else "cpu"
    environment = {**describe_machine(device), "device": device, **describe_experiment(experiment)}
    return Table(rows, verdict(alone.rate, loader, both.rate, data.num_workers), environment)


def verdict(step: Rate, loader: Rate, both: Rate, num_workers: int, cores: int | None = None) -> tuple[str, ...]:
    """Describe in sentences the limit of training speed and the remedy, from the rates of step, loader and both."""
    cores = core_count() if cores is None else cores
    ratio = both.median / step.median
    if loader.median < TIE * step.median:
        needed = math.ceil(max(1, num_workers) * step.median / loader.median)
        remedy = (
            f"raise data.num_workers from {num_workers} to {needed}"
            if needed <= cores
            else f"{needed} workers would be needed and there are {cores} cores, so make reading faster instead"
        )
        return (
            f"The loader limits the speed: it reads {loader.median:.4g} images/s, "
            f"and the step can use {step.median:.4g}.",
            f"Change: {remedy}; `segmnv2 benchmark data` shows the slowest stage.",
        )
    if ratio >= TIE:
        return (
            f"The step limits the speed: together they reach {ratio:.0%} of the step's speed, and the loader alone is "
            f"{loader.median / step.median:.1f} times as fast.",
            "Change: lower data.crop_size or model.width, raise model.output_stride, or use precision bf16-mixed on a "
            "GPU; more workers do not help.",
        )
    together = f"together they reach {both.median:.4g} images/s, {ratio:.0%} of the step's {step.median:.4g}"
    if num_workers == 0:
        return (
            f"Step and loader take turns: {together}.",
            "Change: data.num_workers from 0 to 1, so that a batch is read while the step before it runs.",
        )
    return (
        f"Step and loader slow each other: {together}; the loader alone reaches {loader.median:.4g}.",
        f"Change: they share {cores} cores; try data.num_workers {num_workers - 1} and {num_workers + 1}, or make "
        "reading faster (`segmnv2 benchmark data` shows the slowest stage).",
    )


def _memory(steps: Steps, accelerator: str) -> str:
    if steps.memory is None:
        return ""
    return f"peak {steps.memory:.0f} MB " + ("of the GPU" if accelerator == "gpu" else "of the whole process")
