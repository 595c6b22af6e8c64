from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from segmnv2.data.mask_file import VOID_COLOUR, read_mask, write_mask
from segmnv2.errors import DatasetError
from segmnv2.labels import VOC_LABELS, LabelSet

THREE = LabelSet(("ground", "road", "car"), ((0, 0, 0), (10, 20, 30), (200, 0, 0)), ignore_index=250)


def test_a_written_mask_reads_back(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).choice([0, 1, 2, 250], (7, 9)).astype(np.uint8)
    write_mask(tmp_path / "new" / "mask.png", mask, THREE)
    assert (read_mask(tmp_path / "new" / "mask.png", THREE) == mask).all()


def test_a_written_mask_shows_the_colours_of_its_labels(tmp_path: Path) -> None:
    write_mask(tmp_path / "mask.png", np.array([[1, 250]], np.uint8), THREE)
    with PIL.Image.open(tmp_path / "mask.png") as picture:
        assert np.array(picture.convert("RGB")).tolist() == [[[10, 20, 30], list(VOID_COLOUR)]]


def test_grey_and_palette_files_hold_the_same_ids(tmp_path: Path) -> None:
    mask = np.arange(3, dtype=np.uint8)[None]
    PIL.Image.fromarray(mask).save(tmp_path / "grey.png")
    assert (read_mask(tmp_path / "grey.png", THREE) == mask).all()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, 7, 7, 9], r"ids 7 \(2 pixels\), 9 \(1 pixels\) are no class; allowed are 0..2 and 250"),
        ([0, 255, 255, 0], r"255 \(2 pixels\).*save 1 in place of 255"),
        ([1, 2, 3, 3], r"3 \(2 pixels\).*numbered from 1"),
        (list(range(100, 120)), "and 12 more"),
    ],
)
def test_ids_that_are_no_class_are_listed(tmp_path: Path, ids: list[int], message: str) -> None:
    PIL.Image.fromarray(np.array([ids], np.uint8)).save(tmp_path / "own.png")
    with pytest.raises(DatasetError, match=rf"own.png: .*{message}"):
        read_mask(tmp_path / "own.png", THREE)


def test_ids_that_are_no_class_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="99"):
        write_mask(tmp_path / "mask.png", np.array([[99]], np.uint8), THREE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16"])
def test_colours_are_no_ids(tmp_path: Path, mode: str) -> None:
    PIL.Image.new(mode, (2, 2)).save(tmp_path / "colour.png")
    with pytest.raises(DatasetError, match=r"colour.png: is a PNG of mode .*one class id per pixel"):
        read_mask(tmp_path / "colour.png", VOC_LABELS)


def test_jpeg_cannot_hold_ids(tmp_path: Path) -> None:
    PIL.Image.new("L", (8, 8)).save(tmp_path / "mask.jpg")
    with pytest.raises(DatasetError, match="compression changes ids"):
        read_mask(tmp_path / "mask.jpg", VOC_LABELS)


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "no such mask"), (b"text", "not an image"), (b"", "not an image")]
)
def test_unreadable_masks_are_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "mask.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"mask.png: .*{reason}"):
        read_mask(path, VOC_LABELS)
