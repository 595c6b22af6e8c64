from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from segmnv2.benchmark.data import AUGMENT, COLLATE, IMAGE, MASK, REST, benchmark_data, measure_loader, measure_stages
from segmnv2.benchmark.machine import one_core
from segmnv2.config.reading import parse_experiment
from segmnv2.config.segmentation_schema import Experiment
from segmnv2.data.mask_file import write_mask
from segmnv2.data.sample import Sample
from segmnv2.data.transforms import TrainTransform
from segmnv2.datasets.shapes import SHAPES_LABELS, Shapes
from segmnv2.errors import ConfigError, SegmnError
from tests.dataset_files import open_folder


def tiny(*overrides: str) -> Experiment:
    shapes = {"kind": "shapes", "length": 4, "size": 40}
    data = {"train": shapes, "val": shapes, "crop_size": 33, "batch_size": 2, "num_workers": 0}
    return parse_experiment({"name": "tiny", "data": data, "steps": 2, "device": "cpu"}, overrides)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump(SHAPES_LABELS.to_dict()))
    for index in range(3):
        cv2.imwrite(str(tmp_path / "images" / f"{index}.png"), np.full((40, 50, 3), 90, np.uint8))
        write_mask(tmp_path / "masks" / f"{index}.png", np.ones((40, 50), np.uint8), SHAPES_LABELS)
    return tmp_path


def test_there_is_a_row_for_each_stage_and_each_loader() -> None:
    table = benchmark_data(tiny(), batches=2, workers=(0, 1))
    stages = [f"{name}, one core" for name in (REST, AUGMENT, COLLATE)]
    assert [row.name for row in table.rows] == [*stages, "loader, 0 workers", "loader, 1 worker"]
    for row in table.rows:
        assert all(np.isfinite(value) and value > 0 for value in row.rate.values)
    assert [len(row.rate.values) for row in table.rows] == [2] * 5


def test_only_files_have_stages_of_decoding(folder: Path) -> None:
    transform = TrainTransform(33)
    generated = measure_stages(Shapes(4, (40, 40)), transform, batch_size=2, seed=0, batches=2)
    read = measure_stages(open_folder(folder), transform, batch_size=2, seed=0, batches=2)
    assert list(generated) == [REST, AUGMENT, COLLATE]
    assert list(read) == [IMAGE, MASK, REST, AUGMENT, COLLATE]


def test_stages_read_the_same_samples_as_the_loader() -> None:
    seen: list[tuple[str, int]] = []

    def transform(sample: Sample, seed: int) -> Sample:
        seen.append((sample.name, seed))
        return sample

    shapes = Shapes(4, (33, 33))
    measure_stages(shapes, transform, batch_size=2, seed=5, batches=1)
    staged, seen[:] = list(seen), []
    measure_loader(shapes, transform, batch_size=2, seed=5, num_workers=0, batches=1)
    assert seen == staged
    assert len(seen) == 2 * 3  # two batches to warm up


def test_one_measurement_is_a_batch_of_every_worker() -> None:
    rate = measure_loader(Shapes(4, (33, 33)), TrainTransform(33), batch_size=2, seed=0, num_workers=2, batches=3)
    assert len(rate.values) == 2


def test_one_core_restores_the_numbers_of_threads() -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    with one_core():
        assert torch.get_num_threads() == 1
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


def test_a_faulty_file_is_named(folder: Path) -> None:
    (folder / "images" / "1.png").write_bytes(b"")
    experiment = tiny(f"data.train={{kind: folder, root: '{folder}'}}")
    with pytest.raises(SegmnError, match=r"1\.png: is empty"):
        benchmark_data(experiment, batches=2, workers=(0,))


@pytest.mark.parametrize("workers", [(), (1, -1)])
def test_impossible_workers_are_refused(workers: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"workers .*at least 0"):
        benchmark_data(tiny(), workers=workers)
