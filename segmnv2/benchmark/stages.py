"""Time of each stage from one training image's file to a batch."""

from __future__ import annotations

import cProfile
import inspect
import pstats
import time
from collections.abc import Callable
from types import CodeType

from segmnv2.benchmark.compare import Rate
from segmnv2.benchmark.machine import one_core
from segmnv2.data.image_file import read_image
from segmnv2.data.loader import collate
from segmnv2.data.mask_file import read_mask
from segmnv2.data.sample import Sample, SegmentationDataset
from segmnv2.data.sampler import StepSampler, augmentation_seed

IMAGE, MASK, REST, AUGMENT, COLLATE = (
    "decode image",
    "decode mask",
    "rest of the data set",
    "augment",
    "collate",
)
STAGES = (IMAGE, MASK, REST, AUGMENT, COLLATE)

WARM_UP = 2
"""Batches before the clock runs: libraries are loaded and the first files' folder is read."""

_READERS: dict[str, tuple[Callable[..., object], ...]] = {IMAGE: (read_image,), MASK: (read_mask,)}

Seconds = dict[str, float]


def measure_stages(
    dataset: SegmentationDataset,
    transform: Callable[[Sample, int], Sample],
    *,
    batch_size: int,
    seed: int,
    batches: int,
) -> dict[str, Rate]:
    """Measure each stage by itself on one core, over the images that training would read first.

    Args:
        dataset: what to read from.
        transform: augmentation, as ``TrainTransform``.
        batch_size: samples a batch.
        seed: of order and augmentation.
        batches: how many are measured, each giving one measurement.

    Returns:
        By name, in the order of the work. ``rest of the data set`` is what is neither an image nor a mask read from a
        file: drawing, checking sizes. Stages that take no time (generated images are not decoded) are left out.

    Raises:
        SegmnError: as the data set raised it.
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
    """Read a sample and report the time of image, mask and the rest took.

    A profiler finds the readers whichever data set calls them, and adds little to work that is done in C.
    """
    profiler = cProfile.Profile()
    began = time.perf_counter()
    sample = profiler.runcall(dataset.__getitem__, index)
    whole = time.perf_counter() - began
    # [3] of an entry is the time in a function and all that it calls.
    times = {code: entry[3] for code, entry in pstats.Stats(profiler).stats.items()}  # type: ignore[attr-defined]
    seconds = {
        name: sum(times.get(_label(inspect.unwrap(reader).__code__), 0.0) for reader in readers)
        for name, readers in _READERS.items()
    }
    return sample, {**seconds, REST: max(whole - sum(seconds.values()), 0.0)}


def _label(code: CodeType) -> tuple[str, int, str]:
    """Return what ``pstats`` calls a function."""
    return code.co_filename, code.co_firstlineno, code.co_name
