from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import yaml

from segmnv2.checks.examination import examine, listings_of
from segmnv2.checks.page import html_page
from segmnv2.checks.repaired_copy import write_repaired_copy
from segmnv2.datasets.coco_voc import COCO_CATEGORIES
from segmnv2.datasets.dataset_kinds import FileDataset
from segmnv2.datasets.shapes import Shapes
from segmnv2.errors import ConfigError, DatasetError
from segmnv2.inference.overlay import blend, colorize
from tests.checks.sound import all_masks, check, kinds, mask_path, save_gray, write_folder
from tests.dataset_files import WRITERS


def experiment(path: Path, train: Mapping[str, object], val: Mapping[str, object]) -> Path:
    path.write_text(yaml.safe_dump({"name": "x", "steps": 1, "data": {"train": train, "val": val}}))
    return path


def test_two_processes_give_the_findings_of_one(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "own", train=40)
    for index, path in enumerate(all_masks(root)):
        if index % 3 == 0:
            save_gray(path, np.full((48, 64), index))
    one, two = check(root, workers=1).to_dict(), check(root, workers=2).to_dict()
    assert one["errors"] > 0
    assert one == two


def test_frequencies_are_those_of_the_masks(root: Path) -> None:
    split = check(root).splits[0]
    masks = [Shapes(8, (48, 64), seed=4)[i].mask for i in range(8)]
    assert (split.frequencies.pixels == sum(np.bincount(mask.ravel(), minlength=256) for mask in masks)).all()


def test_json_is_valid_and_complete(root: Path) -> None:
    save_gray(mask_path(root), np.full((48, 64), 77))
    examination = check(root)
    values = json.loads(json.dumps(examination.to_dict()))
    assert len(values["findings"]) == len(examination.findings) == values["errors"] + values["warnings"]
    assert values["findings"][0].keys() == {"severity", "kind", "file", "reason", "remedy", "split", "repair"}
    assert [split["read"] for split in values["splits"]] == [8, 3]
    assert values["splits"][0]["classes"].keys() == values["class_weights"].keys()


def test_the_page_shows_the_files_and_is_self_contained(root: Path) -> None:
    for index in range(5):
        save_gray(mask_path(root, index), np.full((48, 64), 77))
    (root / "images" / "<b>.heic").write_text("x")
    page = html_page(check(root))
    for index in range(5):
        assert str(mask_path(root, index)) in page
    assert page.count("data:image/jpeg;base64,") == 3 * 3
    assert "&lt;b&gt;.heic" in page
    assert "<b>" not in page
    assert "http" not in page
    assert "<script" not in page
    assert "correct the mask" in page


def test_the_page_shows_masks_of_another_size_and_unreadable_files(root: Path) -> None:
    save_gray(mask_path(root, 0), np.zeros((9, 9)))
    mask_path(root, 1).write_bytes(b"")
    (root / "images" / "2.png").write_bytes(b"")
    assert "size-mismatch" in html_page(check(root))


@pytest.mark.parametrize("kind", ["cityscapes", "ade20k"])
def test_the_page_shows_masks_of_other_ids_in_the_colors_of_the_classes(kind: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path)
    (listing,) = listings_of(tmp_path)
    last = listing.pairs[-1].image
    last.write_bytes(listing.pairs[0].image.read_bytes())  # a duplicate, so that its mask is shown
    page = html_page(examine([listing], workers=1))
    _, mask, overlay = (
        np.array(PIL.Image.open(BytesIO(base64.b64decode(code))), int)
        for code in re.findall(r"data:image/jpeg;base64,([^\"]+)", page)[:3]
    )
    sample = FileDataset(listing)[len(listing.pairs) - 1]
    assert np.abs(mask - colorize(sample.mask, listing.labels)).mean() < 9
    assert np.abs(overlay - blend(sample.image, sample.mask, listing.labels)).mean() < 9


def test_both_splits_of_an_experiment_are_read(root: Path, tmp_path: Path) -> None:
    source = {"kind": "folder", "root": str(root)}
    config = experiment(tmp_path / "c.yaml", {**source, "split": "train"}, {**source, "split": "val"})
    examination = examine(listings_of(config), workers=1)
    assert [(split.listing.split, len(split.kept)) for split in examination.splits] == [("train", 8), ("val", 3)]
    assert examination.findings == ()
    same = experiment(tmp_path / "d.yaml", source, source)
    assert kinds(examine(listings_of(same), workers=1)) == {"leak"}


def test_generated_shapes_are_examined(tmp_path: Path) -> None:
    shapes = {"kind": "shapes", "size": 48}
    config = experiment(tmp_path / "c.yaml", {**shapes, "length": 12, "seed": 1}, {**shapes, "length": 3, "seed": 2})
    examination = examine(listings_of(config), workers=1)
    assert examination.findings == ()
    leaking = listings_of(config, overrides=["data.val.seed=1"])
    assert [finding.kind for finding in examine(leaking, workers=1).findings] == ["leak"] * 3


def test_a_limit_reads_the_first_pairs(root: Path) -> None:
    examination = examine(listings_of(root), workers=1, limit=2)
    assert [len(split.kept) for split in examination.splits] == [2, 2]
    assert "not all of them" in examination.verdict
    assert examination.findings == ()


def test_classes_that_differ_are_refused(root: Path, tmp_path: Path) -> None:
    source = {"kind": "folder", "root": str(root)}
    config = experiment(tmp_path / "c.yaml", source, {"kind": "voc", "root": str(tmp_path), "split": "val"})
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    with pytest.raises(
        ConfigError, match=r"21 in data\.val, 5 in data\.train; class 1 is 'aeroplane' in data\.val, 'circle'"
    ):
        listings_of(config)


def test_folders_and_files_that_are_no_data_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not have the layout of a data set"):
        listings_of(tmp_path)
    with pytest.raises(DatasetError, match="no such file or folder"):
        listings_of(tmp_path / "none")


def test_each_missing_image_of_coco_is_reported(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 30, "width": 40} for i in range(4)]
    square = {"segmentation": [[5, 5, 25, 5, 25, 25, 5, 25]], "area": 400, "iscrowd": 0}
    content = {
        "images": images,
        "annotations": [{**square, "id": i, "image_id": i, "category_id": 1} for i in range(4)],
        "categories": [{"id": number, "name": name} for number, name in COCO_CATEGORIES],
    }
    for split, kept in (("train2017", (0, 2)), ("val2017", (3,))):
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        (tmp_path / split).mkdir()
        for index in kept:
            picture = np.random.default_rng(index).integers(0, 255, (30, 40, 3), dtype=np.uint8)
            PIL.Image.fromarray(picture).save(tmp_path / split / f"{index}.jpg")
    source = {"kind": "coco_voc", "root": str(tmp_path), "min_pixels": 0}
    config = experiment(
        tmp_path / "c.yaml", {**source, "split": "train2017"}, {**source, "split": "val2017", "min_pixels": 0}
    )
    examination = examine(listings_of(config), workers=1)
    missing = {finding.file for finding in examination.findings if finding.kind == "unreadable-image"}
    expected = [("train2017", 1), ("train2017", 3), ("val2017", 0), ("val2017", 1), ("val2017", 2)]
    assert missing == {str(tmp_path / split / f"{index}.jpg") for split, index in expected}
    assert "unreadable-image" in html_page(examination)
    with pytest.raises(ConfigError, match="no mask files to repair"):
        write_repaired_copy(examination, tmp_path / "fixed")
