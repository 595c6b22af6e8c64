from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import ImageFolder as Theirs

from segmnv2.datasets import image_folder
from segmnv2.datasets.dataset_kinds import file_sizes
from segmnv2.datasets.image_folder import ImageFolder
from segmnv2.errors import DatasetError, MediaError
from tests.image_folders import COLORS, write_image_folder


def test_it_equals_torchvisions_image_folder(tmp_path: Path) -> None:
    write_image_folder(tmp_path, images=2)
    (tmp_path / "red" / "deeper").mkdir()
    shutil.copy(tmp_path / "red" / "0.png", tmp_path / "red" / "deeper" / "again.PNG")
    ours, theirs = ImageFolder(tmp_path), Theirs(str(tmp_path))
    assert list(ours.class_names) == theirs.classes == sorted(COLORS)
    assert list(zip(ours.files, ours.targets, strict=True)) == theirs.samples
    for index in range(len(theirs)):
        image, label = theirs[index]
        assert np.array_equal(ours[index].image, np.asarray(image))
        assert ours[index].label == label
    assert ours[len(ours) - 1].name == "red/deeper/again.PNG"


def test_a_change_of_an_image_changes_the_sizes_that_a_state_records(tmp_path: Path) -> None:
    write_image_folder(tmp_path, images=1)
    dataset = ImageFolder(tmp_path)
    before = list(file_sizes(dataset))
    with Path(dataset.files[1]).open("ab") as file:
        file.write(b"x")
    assert list(file_sizes(dataset)) == [before[0], before[1] + 1, *before[2:]]


def test_reading_does_not_build_a_set_for_each_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image_folder(tmp_path, images=1)
    built: list[set[int]] = []

    def build(values: Iterable[int]) -> set[int]:
        built.append(set(values))
        return built[-1]

    monkeypatch.setattr(image_folder, "set", build, raising=False)
    assert len(ImageFolder(tmp_path)) == len(COLORS) > 1
    assert len(built) <= 1


def test_hidden_and_system_files_are_ignored(tmp_path: Path) -> None:
    write_image_folder(tmp_path, images=1)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "red" / ".DS_Store").write_bytes(b"")
    (tmp_path / "red" / "Thumbs.db").write_bytes(b"")
    (tmp_path / "red" / ".thumbs").mkdir()
    shutil.copy(tmp_path / "red" / "0.png", tmp_path / "red" / ".thumbs" / "0.png")
    dataset = ImageFolder(tmp_path)
    assert len(dataset) == 3
    assert dataset.class_names == tuple(sorted(COLORS))


def test_an_image_outside_of_the_classes_is_rejected(tmp_path: Path) -> None:
    write_image_folder(tmp_path, images=1)
    (tmp_path / "README.md").touch()
    assert len(ImageFolder(tmp_path)) == len(COLORS)
    shutil.copy(tmp_path / "red" / "0.png", tmp_path / "loose.PNG")
    with pytest.raises(DatasetError, match=r"1 images are not in the folder of a class \(loose\.PNG\)"):
        ImageFolder(tmp_path)


def test_a_folder_that_cannot_be_listed_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image_folder(tmp_path, images=1)
    locked = tmp_path / "red" / "more"
    locked.mkdir()
    usual = os.scandir

    def scandir(path: str) -> Any:
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DatasetError, match=r"red/more: cannot be listed \(Permission denied\)"):
        ImageFolder(tmp_path)


def test_each_fault_is_reported_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        ImageFolder(tmp_path / "absent")
    with pytest.raises(DatasetError, match="holds no folders; each class needs one"):
        ImageFolder(tmp_path)
    write_image_folder(tmp_path, images=1)
    (tmp_path / "red" / "notes.txt").write_text("x")
    with pytest.raises(DatasetError, match=r"1 files do not end in .*red/notes\.txt.*rename or remove"):
        ImageFolder(tmp_path)
    (tmp_path / "red" / "notes.txt").unlink()
    (tmp_path / "yellow").mkdir()
    with pytest.raises(DatasetError, match=r"1 folders hold no image .yellow.*fill or remove"):
        ImageFolder(tmp_path)
    (tmp_path / "yellow" / "0.png").write_bytes(b"no png")
    with pytest.raises(MediaError, match=r"yellow/0\.png"):
        ImageFolder(tmp_path)[3]
