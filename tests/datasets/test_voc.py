from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from segmnv2.data.mask_file import write_mask
from segmnv2.datasets.shapes import SHAPES_LABELS, Shapes
from segmnv2.datasets.voc import VocSegmentation
from segmnv2.errors import DatasetError, MediaError, SegmnError
from tests.dataset_files import iterate
from tests.voc_layout import write_voc_layout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A devkit with three images to train on and two to validate."""
    write_voc_layout(Shapes(3, (20, 30), seed=1), tmp_path, "train")
    write_voc_layout(Shapes(2, (20, 30), seed=2), tmp_path, "val")
    return tmp_path


def open_train(root: Path, split: str = "train") -> VocSegmentation:
    return VocSegmentation(root, split, labels=SHAPES_LABELS)


def test_written_samples_are_read_unchanged(root: Path) -> None:
    written, read = Shapes(3, (20, 30), seed=1), open_train(root)
    assert len(read) == 3
    for expected, sample in zip(iterate(written), iterate(read), strict=True):
        assert sample.name == expected.name
        assert (sample.mask == expected.mask).all()
        assert np.abs(sample.image.astype(int) - expected.image).mean() < 6  # JPEG


def test_the_root_may_be_the_devkit_or_the_year(root: Path) -> None:
    assert open_train(root).folder == open_train(root / "VOC2012").folder


def test_sbd_masks_are_used_if_voc_has_none(root: Path) -> None:
    folder = root / "VOC2012"
    first, second, _ = open_train(root).names
    (folder / "SegmentationClassAug").mkdir()
    shutil.move(folder / "SegmentationClass" / f"{first}.png", folder / "SegmentationClassAug")
    other = np.full((20, 30), 2, np.uint8)
    write_mask(folder / "SegmentationClassAug" / f"{second}.png", other, SHAPES_LABELS)
    expected = Shapes(3, (20, 30), seed=1)
    dataset = open_train(root)
    assert (dataset[0].mask == expected[0].mask).all(), "only in SegmentationClassAug"
    assert (dataset[1].mask == expected[1].mask).all(), "in both: SegmentationClass, which marks void pixels"


def test_a_wrong_root_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere: does not exist.*give the VOCdevkit folder"):
        VocSegmentation(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"has no folder .ImageSets.*VOC2007"):
        VocSegmentation(tmp_path, year=2007)


def test_the_message_for_a_wrong_split_lists_the_existing_ones(root: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"train_aug.txt: there is no such list; the splits present are: train, val; .*Semantic"
    ):
        open_train(root, "train_aug")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n", "names no images"),
        (
            "/JPEGImages/a.jpg /x/a.png\n",
            "'/JPEGImages/a.jpg /x/a.png' is not in JPEGImages/; write names",
        ),
        ("a\nb 1\n", "'b 1' is not in JPEGImages/"),
        ("a\nb\na\n", "names 'a' 2 times"),
    ],
)
def test_a_wrong_list_is_rejected(root: Path, text: str, message: str) -> None:
    (root / "VOC2012/ImageSets/Segmentation/odd.txt").write_text(text)
    with pytest.raises(DatasetError, match=rf"odd.txt: {message}"):
        open_train(root, "odd")


@pytest.mark.parametrize(("folder", "suffix"), [("JPEGImages", "jpg"), ("SegmentationClass", "png")])
def test_one_message_counts_all_missing_files(root: Path, folder: str, suffix: str) -> None:
    name = open_train(root).names[1]
    (root / "VOC2012" / folder / f"{name}.{suffix}").unlink()
    with pytest.raises(DatasetError, match=rf"{folder}/{name}.{suffix}: train.txt names it"):
        open_train(root)


def test_sizes_must_match(root: Path) -> None:
    dataset = open_train(root)
    PIL.Image.new("RGB", (20, 30)).save(root / f"VOC2012/JPEGImages/{dataset.names[0]}.jpg")
    with pytest.raises(DatasetError, match=r"20 rows and 30 columns, its image .* 30 and 20"):
        dataset[0]


def test_a_damaged_image_raises_a_media_error(root: Path) -> None:
    dataset = open_train(root)
    path = root / f"VOC2012/JPEGImages/{dataset.names[0]}.jpg"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(MediaError, match="damaged or truncated"):
        dataset[0]


def test_ids_beyond_the_labels_are_rejected(root: Path) -> None:
    dataset = open_train(root)
    PIL.Image.fromarray(np.full((20, 30), 77, np.uint8)).save(
        root / f"VOC2012/SegmentationClass/{dataset.names[0]}.png"
    )
    with pytest.raises(SegmnError, match=r"77 \(600 pixels\)"):
        dataset[0]
