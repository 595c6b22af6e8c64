"""Images a second that can be read and augmented, and the time of each stage.

Images to measure speeds on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from segmnv2.benchmark.compare import Rate, check_count
from segmnv2.benchmark.machine import core_count, describe_experiment, describe_machine
from segmnv2.benchmark.result_table import Row, Table
from segmnv2.benchmark.stages import AUGMENT, COLLATE, IMAGE, MASK, REST, measure_stages
from segmnv2.config import Experiment
from segmnv2.counting import counted
from segmnv2.data.image_file import read_image
from segmnv2.data.loader import training_loader
from segmnv2.data.sample import Sample, SegmentationDataset
from segmnv2.datasets.shapes import Shapes
from segmnv2.datasets.source import open_dataset
from segmnv2.errors import ConfigError
from segmnv2.inference.options import sample_folder
from segmnv2.tasks.segmentation import build_transform
from segmnv2.training.trainer import choose_accelerator

GENERATED = 16


def square_images(folder: Path | None, side: int) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """Return RGB images, 0..255, all of one size, so that every library does the same work.

    Args:
        folder: of images, scaled to the size, at most 100 of them; generated shapes by default.
        side: height and width in pixels, at least 16.

    Raises:
        ConfigError: there is no such folder, or the side is too small.
        MediaError: a file is no image, or the folder has none.
    """
    if folder is None:
        drawn = Shapes(GENERATED, (side, side))
        return [drawn[index].image for index in range(GENERATED)]
    return [cv2.resize(read_image(path), (side, side), interpolation=cv2.INTER_AREA) for path in sample_folder(folder)]


WARM_UP = 2
"""Turns of all workers before the clock runs: processes start, files' folders are read."""

REMEDIES = {
    IMAGE: "store images no larger than data.crop_size and data.scales can use",
    MASK: "store masks as 8-bit palette PNG, no larger than their images need to be",
    REST: "what is drawn or looked up for each sample could be prepared once, as files",
    AUGMENT: "a smaller data.crop_size, or data.scales without the largest",
    COLLATE: "a smaller data.crop_size",
}


def loader_name(num_workers: int) -> str:
    """Return what the row of a loader is called."""
    return f"loader, {counted(num_workers, 'worker')}"


def benchmark_data(experiment: Experiment, *, batches: int = 20, workers: Sequence[int] = (0, 1, 2)) -> Table:
    """Measure the training loader alone and each stage of it on one core.

    Args:
        experiment: data set, augmentation and batch size.
        batches: how many are measured each time; first ones that are slower are left out beforehand.
        workers: numbers of reading processes to try; 0 reads in the process itself, with all of its threads.

    Raises:
        ConfigError: no batches, or a negative number of workers.
        SegmnError: the data set is missing or faulty.
    """
    check_count("batches", batches)
    if not workers or min(workers) < 0:
        raise ConfigError(f"workers {tuple(workers)}: give one or more numbers of at least 0, as 0,1,2")
    data = experiment.data
    pin_memory = choose_accelerator(experiment) == "gpu"
    dataset = open_dataset(data.train, "data.train")
    transform = build_transform(experiment, dataset.labels)
    stages = measure_stages(dataset, transform, batch_size=data.batch_size, seed=experiment.seed, batches=batches)
    seconds = {name: sum(1 / value for value in rate.values) for name, rate in stages.items()}
    shares = {name: value / sum(seconds.values()) for name, value in seconds.items()}
    rows = [Row(f"{name}, one core", rate, f"{shares[name]:.0%} of the work") for name, rate in stages.items()]
    for count in dict.fromkeys(workers):
        rate = measure_loader(
            dataset,
            transform,
            batch_size=data.batch_size,
            seed=experiment.seed,
            num_workers=count,
            batches=batches,
            pin_memory=pin_memory,
        )
        rows.append(Row(loader_name(count), rate))
    slowest = max(shares, key=shares.__getitem__)
    best = max(rows[len(stages) :], key=lambda row: row.rate.median)
    verdict = (
        f"Most of the work is '{slowest}' ({shares[slowest]:.0%}); it shrinks with: {REMEDIES[slowest]}.",
        f"Fastest is the {best.name}: {best.rate.median:.4g} images/s on {counted(core_count(), 'core')}.",
    )
    return Table(tuple(rows), verdict, {**describe_machine("cpu"), **describe_experiment(experiment)})


def measure_loader(
    dataset: SegmentationDataset,
    transform: Callable[[Sample, int], Sample],
    *,
    batch_size: int,
    seed: int,
    num_workers: int,
    batches: int,
    pin_memory: bool = False,
) -> Rate:
    """Measure how fast the loader of training yields batches that nobody uses.

    Workers deliver at about the same moment, so one measurement is a turn of all of them.

    Args:
        dataset: what to read from.
        transform: augmentation, as ``TrainTransform``.
        batch_size: samples a batch.
        seed: of order and augmentation.
        num_workers: reading processes.
        batches: how many are measured, rounded up to whole turns.
        pin_memory: as training for a GPU does it.

    Raises:
        SegmnError: as the data set raised it.
    """
    loader = training_loader(
        dataset, transform, batch_size=batch_size, seed=seed, num_workers=num_workers, pin_memory=pin_memory
    )
    iterator = iter(loader)
    turn = max(1, num_workers)
    seconds = []
    for _ in range(WARM_UP + -(-batches // turn)):
        began = time.perf_counter()
        for _ in range(turn):
            next(iterator)
        seconds.append(time.perf_counter() - began)
    return Rate.of(turn * batch_size, seconds[WARM_UP:])
