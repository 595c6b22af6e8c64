"""The limit of training speed: the network, or reading the data."""

from __future__ import annotations

import math

from segmnv2.benchmark.compare import Rate, check_count
from segmnv2.benchmark.data import loader_name, measure_loader
from segmnv2.benchmark.machine import core_count, describe_experiment, describe_machine
from segmnv2.benchmark.result_table import Row, Table
from segmnv2.benchmark.steps import Steps, first_batch, measure_steps, part_size
from segmnv2.config import Experiment
from segmnv2.datasets.source import open_dataset
from segmnv2.tasks.segmentation import build_transform
from segmnv2.training.trainer import choose_accelerator

STEP, BOTH = "step alone", "step and loader together"

TIE = 0.9
"""From here on a ratio of two speeds counts as no difference; busy machines move by as much from run to run."""


def benchmark_training(experiment: Experiment, *, steps: int = 20) -> Table:
    """Measure the training step alone, the loader alone and both together, and say which limits.

    Args:
        experiment: what would be trained; nothing is written, validated or read of its initial weights.
        steps: measured each time, after a warm-up.

    Raises:
        ConfigError: no steps, or the device is not there.
        SegmnError: the data set is missing or faulty, or the loss is not finite.
    """
    check_count("steps", steps)
    accelerator = choose_accelerator(experiment)
    data = experiment.data
    train_set = open_dataset(data.train, "data.train")
    # The step comes first: the peak of the process's memory is then its own.
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
    """Say in sentences what limits training and what to change.

    Args:
        step: of the step alone.
        loader: of the loader alone.
        both: of the run.
        num_workers: reading processes of the loader.
        cores: of the machine; this one's by default.
    """
    cores = core_count() if cores is None else cores
    ratio = both.median / step.median
    if loader.median < TIE * step.median:
        wanted = math.ceil(max(1, num_workers) * step.median / loader.median)
        more = (
            f"raise data.num_workers from {num_workers} to {wanted}"
            if wanted <= cores
            else f"{wanted} workers would be needed and there are {cores} cores, so make reading faster instead"
        )
        return (
            f"The loader limits: it reads {loader.median:.4g} images/s, and the step could take {step.median:.4g}.",
            f"Change: {more}; `segmnv2 benchmark data` shows the slowest stage.",
        )
    if ratio >= TIE:
        return (
            f"The step limits: together they reach {ratio:.0%} of its speed, and the loader alone is "
            f"{loader.median / step.median:.1f} times as fast.",
            "Change: a smaller data.crop_size or model.width, a larger model.output_stride, or on a GPU precision "
            "bf16-mixed; more workers bring nothing.",
        )
    together = f"together they make {both.median:.4g} images/s, {ratio:.0%} of the step's {step.median:.4g}"
    if num_workers == 0:
        return (
            f"Step and loader take turns: {together}.",
            "Change: data.num_workers from 0 to 1, so that a batch is read while the step before it runs.",
        )
    return (
        f"Step and loader hinder each other: {together}; the loader alone makes {loader.median:.4g}.",
        f"Change: they share {cores} cores; try data.num_workers {num_workers - 1} and {num_workers + 1}, or make "
        "reading faster (`segmnv2 benchmark data` shows the slowest stage).",
    )


def _memory(steps: Steps, accelerator: str) -> str:
    if steps.memory is None:
        return ""
    return f"peak {steps.memory:.0f} MB " + ("of the GPU" if accelerator == "gpu" else "of the whole process")
