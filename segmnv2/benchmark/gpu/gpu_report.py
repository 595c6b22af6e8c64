"""All tables of the GPU benchmark, one after another, within a given time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from segmnv2.benchmark.compare import Table, check_count
from segmnv2.benchmark.data import square_images
from segmnv2.benchmark.gpu.gpu_inference import compare_gpu_maps
from segmnv2.benchmark.gpu.gpu_setting import GpuSetting
from segmnv2.benchmark.gpu.gpu_training import compare_gpu_steps, measure_gpu_run, read_batches
from segmnv2.benchmark.gpu.gpu_turns import Limits
from segmnv2.datasets.voc import VocSegmentation
from segmnv2.engines.selection import choose_device
from segmnv2.errors import ConfigError

STEPS = 24
"""Number of steps of the training run with its loader."""


def benchmark_gpu(setting: GpuSetting) -> Iterator[tuple[str, Table]]:
    """Measure training with its loader, training steps and label maps, and yield each table with its title.

    Each table gets a share of the remaining time; the share of training steps is twice that of label maps.

    Args:
        setting: model, device and sizes of the measurement.

    Raises:
        ConfigError: a number is invalid, or the device does not exist.
        SegmnError: images are missing or faulty.
    """
    for name in ("batch", "burst", "rounds"):
        check_count(f"--{name}", getattr(setting, name))
    if setting.seconds <= 0:
        raise ConfigError(f"--seconds {setting.seconds:g}: give a positive number, such as 420 for all tables")
    choose_device(setting.device)  # a missing GPU is reported before images are read
    folder = None if setting.root is None else VocSegmentation(setting.root, "train").folder / "JPEGImages"
    end = time.monotonic() + setting.seconds
    batches, images = read_batches(setting), square_images(folder, setting.crop)
    yield "A training run, output stride 16", measure_gpu_run(setting, STEPS if setting.on_gpu else 2)
    steps = [
        (2, f"Training step, output stride {stride}", partial(compare_gpu_steps, setting, stride, batches))
        for stride in setting.strides
    ]
    maps = [
        (1, f"Label maps, {batch} at once", partial(compare_gpu_maps, setting, batch, images))
        for batch in setting.batches
    ]
    tables = steps + maps
    for place, (share, title, measure) in enumerate(tables):
        remaining = max(0.0, end - time.monotonic()) / sum(later for later, _, _ in tables[place:])
        yield title, measure(Limits(setting.rounds, share * remaining))
