from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import yaml

from segmnv2.data.mask_file import write_mask
from segmnv2.datasets.shapes import SHAPES_LABELS, Shapes
from segmnv2.errors import DatasetError, MediaError
from segmnv2.labels import LabelSet
from tests.dataset_files import iterate, open_folder

SHAPES = Shapes(4, (20, 30), seed=1)
NAMES = ["a", "b", "c.1", "my photo"]


def label_file(root: Path, *, palette: bool) -> None:
    values = SHAPES_LABELS.to_dict()
    if not palette:
        del values["palette"]
    (root / "labels.yaml").write_text(yaml.safe_dump(values))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four pairs and a list of two."""
    for folder in ("images", "masks", "splits"):
        (tmp_path / folder).mkdir()
    for name, ending, sample in zip(NAMES, ("png", "BMP", "webp", "tiff"), iterate(SHAPES), strict=True):
        options: dict[str, Any] = {"lossless": True} if ending == "webp" else {}
        PIL.Image.fromarray(sample.image).save(tmp_path / "images" / f"{name}.{ending}", **options)
        write_mask(tmp_path / "masks" / f"{name}.png", sample.mask, SHAPES_LABELS)
    label_file(tmp_path, palette=True)
    (tmp_path / "splits" / "few.txt").write_text("my photo\n\na\n")
    return tmp_path


def paint(root: Path, name: str) -> None:
    """Replace a mask by the same mask in colors."""
    path = root / "masks" / f"{name}.png"
    PIL.Image.open(path).convert("RGB").save(path)


def test_written_pairs_are_read_unchanged(root: Path) -> None:
    dataset = open_folder(root)
    assert dataset.names == NAMES
    assert dataset.labels == SHAPES_LABELS
    for index, expected in enumerate(iterate(SHAPES)):
        sample = dataset[index]
        assert sample.name == NAMES[index]
        assert (sample.image == expected.image).all()
        assert (sample.mask == expected.mask).all()


def test_a_list_selects_and_orders_pairs(root: Path) -> None:
    assert open_folder(root, "few").names == ["my photo", "a"]


def test_color_masks_equal_id_masks(root: Path) -> None:
    paint(root, "b")
    assert (open_folder(root)[1].mask == SHAPES[1].mask).all()


def test_hidden_and_system_files_are_ignored(root: Path) -> None:
    for name in ("images/.DS_Store", "masks/._a.png", "images/Thumbs.db"):
        (root / name).write_text("x")
    assert open_folder(root).names == NAMES


def test_given_labels_replace_the_file(root: Path) -> None:
    (root / "labels.yaml").unlink()
    assert open_folder(root, labels=SHAPES_LABELS)[0].mask.shape == (20, 30)
    assert open_folder(root, labels=LabelSet.numbered(9)).labels.num_classes == 9


def test_colors_need_a_palette(root: Path) -> None:
    label_file(root, palette=False)
    paint(root, "b")
    with pytest.raises(DatasetError, match=r"b\.png: holds RGB colors.*labels\.yaml a palette"):
        open_folder(root)[1]
    assert (open_folder(root, labels=SHAPES_LABELS)[1].mask == SHAPES[1].mask).all()


def test_a_single_class_is_rejected_with_a_remedy(root: Path) -> None:
    (root / "labels.yaml").write_text("names: [road]")
    with pytest.raises(DatasetError, match=r"one class, 'road'.*`names: \[background, road\]`.*255\]\]`"):
        open_folder(root)


def test_a_folder_is_listed_without_a_call_for_each_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stats: list[str] = []
    real = Path.stat

    def stat(path: Path, **options: Any) -> os.stat_result:
        stats.append(path.name)
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    open_folder(root)
    assert not {name for name in stats if name.endswith((".png", ".BMP"))}


def remove(path: str) -> Callable[[Path], None]:
    return lambda root: shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink()


def write(path: str, text: str = "x") -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / path).write_text(text)

    return change


def copy(source: str, target: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        shutil.copy(root / source, root / target)

    return change


def empty(path: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        shutil.rmtree(root / path)
        (root / path).mkdir()

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("images"), r"images: there is no such folder; .*images/NAME\.jpg"),
        (remove("masks"), r"masks: there is no such folder; .*masks/NAME\.png"),
        (empty("images"), r"images: holds no images; a data set has images/NAME\.jpg"),
        (empty("masks"), r"masks: holds no images; .*masks/NAME\.png"),
        (remove("masks/b.png"), r"images/b\.BMP: there is no .*masks/b\.png; .*rename, add or move"),
        (remove("images/b.BMP"), r"masks/b\.png: there is no image .*images/b\.\*; "),
        (copy("images/a.png", "images/a.jpg"), r"a\.png: has the same name as a\.jpg .*; .*rename"),
        (copy("masks/a.png", "masks/a.PNG"), r"a\.png: has the same name as a\.PNG"),
        (write("images/a.heic"), r"a\.heic: has the ending '\.heic'; .*\.webp only: convert"),
        (write("masks/a.jpg"), r"a\.jpg: has the ending '\.jpg'; masks/ holds files ending in \.png only"),
        (lambda root: (root / "images" / "more").mkdir(), r"more: is a folder; .*move it"),
        (remove("labels.yaml"), r"labels\.yaml: there is no such file; .*names: \[background"),
        (write("labels.yaml", "names: [a, a]"), r"labels\.yaml: .*\['a'\] occur more than once"),
        (write("labels.yaml", "- a"), r"labels\.yaml: .* is not a mapping; give one"),
    ],
)
def test_each_fault_of_the_folder_is_reported(root: Path, change: Callable[[Path], None], message: str) -> None:
    change(root)
    with pytest.raises(DatasetError, match=message):
        open_folder(root)


def test_a_missing_root_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none: there is no such folder; give the one that holds images and masks"):
        open_folder(tmp_path / "none")


def test_the_message_describes_the_first_fault_and_counts_all(root: Path) -> None:
    for number in range(8):
        write(f"images/lonely_{number}.jpg")(root)
    write("masks/other.png")(root)
    with pytest.raises(DatasetError, match=r"lonely_0\.jpg: there is no .*\(the first of 9 faults; `segmnv2"):
        open_folder(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\n", "names no images"),
        (b"a\nb.BMP\nz\n", r"'b\.BMP' is not in images/; write names of existing files.*\(the first of 2"),
        (b"a\nb\na\n", "names 'a' 2 times; name each image once"),
        (b"\xff\xfe\x00", "is not a readable text file"),
    ],
)
def test_each_fault_of_a_list_is_reported(root: Path, text: bytes, message: str) -> None:
    (root / "splits" / "odd.txt").write_bytes(text)
    with pytest.raises(DatasetError, match=rf"odd\.txt: {message}"):
        open_folder(root, "odd")


def test_the_message_for_a_missing_list_names_the_existing_ones(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"train\.txt: there is no such list; the splits present are: few;"):
        open_folder(root, "train")
    shutil.rmtree(root / "splits")
    with pytest.raises(DatasetError, match=r"present are: none; .*leave the split out"):
        open_folder(root, "train")


def test_sizes_must_match(root: Path) -> None:
    PIL.Image.new("RGB", (20, 30)).save(root / "images" / "a.png")
    with pytest.raises(DatasetError, match=r"a\.png: the mask has 20 rows and 30 columns, its image .* 30 and 20"):
        open_folder(root)[0]


@pytest.mark.parametrize(
    ("ending", "side", "orientation", "ambiguous"),
    [
        ("jpg", 20, 3, True),
        ("jpg", 20, 4, True),
        ("jpg", 30, 6, True),
        ("jpg", 20, 6, False),
        ("jpg", 20, 1, False),
        ("tiff", 20, 3, True),
        ("tiff", 30, 8, True),
        ("tiff", 20, 6, False),
        ("png", 20, 3, True),
        ("png", 20, 7, False),
    ],
)
def test_an_image_whose_mask_may_be_turned_is_rejected(
    root: Path, ending: str, side: int, orientation: int, ambiguous: bool
) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    (root / "images" / "a.png").unlink()
    PIL.Image.new("RGB", (30, side)).save(root / "images" / f"a.{ending}", exif=exif)
    rows, columns = (30, side) if orientation > 4 else (side, 30)
    write_mask(root / "masks" / "a.png", np.zeros((rows, columns), np.uint8), SHAPES_LABELS)
    dataset = open_folder(root)
    if not ambiguous:
        assert dataset[0].mask.shape == (rows, columns)
        return
    with pytest.raises(
        DatasetError, match=rf"images/a\.{ending}: is turned by EXIF orientation {orientation}, and its"
    ):
        dataset[0]


def test_pixels_of_no_class_are_rejected(root: Path) -> None:
    for name, pixels in (("a", np.full((20, 30), 77)), ("b", np.full((20, 30, 3), 77))):
        PIL.Image.fromarray(pixels.astype(np.uint8)).save(root / "masks" / f"{name}.png")
    dataset = open_folder(root)
    with pytest.raises(DatasetError, match=r"a\.png: ids 77 \(600 pixels\) are no class"):
        dataset[0]
    with pytest.raises(DatasetError, match=r"b\.png: colors \[77, 77, 77\] \(600 pixels\) are not those of a class"):
        dataset[1]


def test_files_that_are_not_images_are_rejected(root: Path) -> None:
    write("masks/a.png")(root)
    write("images/b.BMP")(root)
    dataset = open_folder(root)
    with pytest.raises(DatasetError, match=r"a\.png: cannot be read as a mask"):
        dataset[0]
    with pytest.raises(MediaError, match=r"b\.BMP: is not an image"):
        dataset[1]
