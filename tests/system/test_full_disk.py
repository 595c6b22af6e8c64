"""Where a file cannot grow, as on a full disk, every writer raises an error and the older file stays whole.

A limit on the size of files stands for the full disk: each write beyond it fails, in any library, without root rights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from segmnv2.data.mask_file import write_mask
from segmnv2.detection.box_predictor import BoxFolder, BoxPrediction
from segmnv2.errors import SegmnError
from segmnv2.export.create import staged_path
from segmnv2.export.export_metadata import describe_export
from segmnv2.export.formats import FORMATS
from segmnv2.inference.files import save_image
from segmnv2.labels import VOC_LABELS
from segmnv2.media.video_writer import video_file
from segmnv2.models.model_file import save_model
from segmnv2.models.zoo import create_model
from segmnv2.paper.drawing import save_figure
from segmnv2.training.logs import CsvLog
from tests.export.shallow import shallow_model

resource = pytest.importorskip("resource")

NOISE = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
LIMIT = 512
"""Bytes that a file may have: less than any of those written here."""


@contextmanager
def full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))  # Python ignores the signal that would follow
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def boxes() -> BoxPrediction:
    count = 20
    return BoxPrediction(NOISE, torch.rand(count, 4), torch.ones(count, dtype=torch.int64), torch.rand(count), {1: "a"})


def video(path: Path) -> None:
    with video_file(path, (96, 96), 10.0) as writer:
        for _ in range(8):
            writer.write(NOISE)


def figure(path: Path) -> None:
    drawn = Figure()
    drawn.add_subplot().plot([0, 1], [0, 1])
    save_figure(path, drawn)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "mask.png": lambda path: write_mask(path, NOISE[..., 0] % 21, VOC_LABELS),
    "overlay.jpg": lambda path: save_image(Image.fromarray(NOISE), path),
    "confidence.png": lambda path: save_image(Image.fromarray(NOISE[..., 0]), path),
    "boxes/a.json": lambda path: BoxFolder(path.parents[1], overlay=False).write(boxes(), "a"),
    "figure.png": figure,
    "figure.svg": figure,
    "video.mp4": video,
    "weights.safetensors": lambda path: save_model(path, create_model("deeplabv3_mobilenet_v2", width=0.05)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_gives_an_error_and_keeps_the_older_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"older")
    with full_disk(), pytest.raises((SegmnError, OSError)):
        WRITERS[name](path)
    assert path.read_bytes() == b"older"
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]
    WRITERS[name](path)
    assert path.stat().st_size > LIMIT


def test_a_log_file_that_cannot_grow_is_reported(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "metrics.csv", ["train/loss"])
    for step in range(LIMIT):
        log.log_metrics({"train/loss": 0.5}, step)
    with full_disk(), pytest.raises(OSError, match=r"File too large: '.*metrics\.csv'"):
        log.log_metrics({"train/loss": 0.5}, LIMIT)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "openvino", "torch", "litert"])
def test_an_export_to_a_full_disk_gives_an_error(form: str, tmp_path: Path) -> None:
    model = shallow_model()
    path = tmp_path / f"a{FORMATS[form].suffix}"
    metadata = describe_export(model, form, size=None if FORMATS[form].dynamic else (33, 33))

    def write() -> None:
        with staged_path(path) as staged, full_disk():
            FORMATS[form].write(model, staged, metadata, None)

    with pytest.raises((SegmnError, OSError)):
        write()
    assert list(tmp_path.iterdir()) == []
