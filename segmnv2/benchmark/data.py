"""Speed of reading and augmenting images, and the time of each stage from a file to a batch."""

from __future__ import annotations

import cProfile
import inspect
import pstats
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from segmnv2.benchmark.compare import Rate, Row, Table, check_count
from segmnv2.benchmark.machine import core_count, describe_experiment, describe_machine, one_core
from segmnv2.config.segmentation_schema import Experiment
from segmnv2.data.annotated_image import read_annotated_image
from segmnv2.data.image_file import read_image
from segmnv2.data.loader import collate, training_loader
from segmnv2.data.mask_file import read_mask
from segmnv2.data.sample import Sample, SegmentationDataset
from segmnv2.data.sampler import StepSampler, augmentation_seed
from segmnv2.datasets.dataset_kinds import open_dataset
from segmnv2.datasets.shapes import Shapes
from segmnv2.errors import ConfigError, counted
from segmnv2.inference.options import sample_folder
from segmnv2.tasks.segmentation import build_transform
from segmnv2.training.trainer import choose_accelerator

STAGES = ("decode image", "decode mask", "rest of the data set", "augment", "collate")
IMAGE, MASK, REST, AUGMENT, COLLATE = STAGES

WARM_UP = 2
"""Batches, or turns of all workers, before the measurement, in which libraries are loaded and folders are read."""

_READERS: dict[str, tuple[Callable[..., object], ...]] = {
    IMAGE: (read_image, read_annotated_image),
    MASK: (read_mask,),
}

Seconds = dict[str, float]


def measure_stages(
    dataset: SegmentationDataset,
    transform: Callable[[Sample, int], Sample],
    *,
    batch_size: int,
    seed: int,
    batches: int,
) -> dict[str, Rate]:
    """Measure each stage separately on one core, on the images that training reads first.

    Each batch gives one measurement. Stages are in the order of the work. ``rest of the data set`` is all work of the
    data set apart from reading images and masks from files, such as drawing. Stages that take no time are omitted, such
    as decoding of generated images. Errors are those of the data set.
    """
    order = iter(StepSampler(len(dataset), seed))
    measured: list[Seconds] = []
    with one_core():
        for _ in range(WARM_UP + batches):
            keys = [next(order) for _ in range(batch_size)]
            measured.append(_time_batch(dataset, transform, keys, seed))
    kept = measured[WARM_UP:]
    return {
        name: Rate.of(batch_size, [seconds[name] for seconds in kept])
        for name in STAGES
        if all(seconds[name] > 0 for seconds in kept)
    }


def _time_batch(
    dataset: SegmentationDataset,
    transform: Callable[[Sample, int], Sample],
    keys: list[tuple[int, int]],
    seed: int,
) -> Seconds:
    seconds = dict.fromkeys(STAGES, 0.0)
    samples = []
    for position, index in keys:
        sample, reading = _read(dataset, index)
        for name, value in reading.items():
            seconds[name] += value
        began = time.perf_counter()
        samples.append(transform(sample, augmentation_seed(seed, position)))
        seconds[AUGMENT] += time.perf_counter() - began
    began = time.perf_counter()
    collate(samples)
    seconds[COLLATE] = time.perf_counter() - began
    return seconds


def _read(dataset: SegmentationDataset, index: int) -> tuple[Sample, Seconds]:
    """Return a sample and the seconds for its image, its mask and the rest.

    A profiler measures the reading functions in any data set. It hardly slows work that is done in C.
    """
    profiler = cProfile.Profile()
    began = time.perf_counter()
    sample = profiler.runcall(dataset.__getitem__, index)
    whole = time.perf_counter() - began
    # Item 3 of an entry is the time in a function and in the functions that it calls.
    times = {code: entry[3] for code, entry in pstats.Stats(profiler).stats.items()}  # type: ignore[attr-defined]
    seconds = dict.fromkeys(_READERS, 0.0)
    for name, readers in _READERS.items():
        for code in (inspect.unwrap(reader).__code__ for reader in readers):
            seconds[name] += times.get((code.co_filename, code.co_firstlineno, code.co_name), 0.0)
    return sample, {**seconds, REST: max(whole - sum(seconds.values()), 0.0)}


GENERATED = 16


def square_images(folder: Path | None, side: int) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """Return square RGB images, 0..255, all of one side (at least 16 pixels), so that all libraries do the same work.

    They are up to 100 images of a folder, scaled to the size, or generated shapes if no folder is given.

    Raises:
        ConfigError: the folder does not exist, or the side is too small.
        MediaError: a file is no image, or the folder has none.
    """
    if folder is None:
        shapes = Shapes(GENERATED, (side, side))
        return [shapes[index].image for index in range(GENERATED)]
    return [cv2.resize(read_image(path), (side, side), interpolation=cv2.INTER_AREA) for path in sample_folder(folder)]


REMEDIES = {
    IMAGE: "store images no larger than data.crop_size and data.scales can use",
    MASK: "store masks as 8-bit palette PNG, no larger than their images need to be",
    REST: "files that are prepared once, in place of work for each sample",
    AUGMENT: "a smaller data.crop_size, or data.scales without the largest",
    COLLATE: "a smaller data.crop_size",
}


def loader_name(num_workers: int) -> str:
    """Return the name of a loader's row."""
    return f"loader, {counted(num_workers, 'worker')}"


def benchmark_data(experiment: Experiment, *, batches: int = 20, workers: Sequence[int] = (0, 1, 2)) -> Table:
    """Measure the training loader alone and each stage of it on one core.

    Args:
        experiment: data set, augmentation and batch size.
        batches: number of batches per measurement; slower first batches are not measured.
        workers: numbers of reading processes to measure; 0 reads in this process, with all of its threads.

    Raises:
        ConfigError: there are no batches, or a number of workers is negative.
        SegmnError: the data set is missing or faulty.
    """
    check_count("batches", batches)
    if not workers or min(workers) < 0:
        raise ConfigError(f"workers {tuple(workers)}: give one or more numbers of at least 0, such as 0,1,2")
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
        f"The slowest stage is '{slowest}' ({shares[slowest]:.0%} of the work). To reduce it: {REMEDIES[slowest]}.",
        f"The fastest is the {best.name}: {best.rate.median:.4g} images/s on {counted(core_count(), 'core')}.",
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
    """Measure the speed of the training loader without training.

    Workers deliver batches at about the same moment, so one measurement is one batch of each worker. The number of
    batches is rounded up to a multiple of the workers. Arguments and errors are those of
    :func:`segmnv2.data.loader.training_loader`.
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
