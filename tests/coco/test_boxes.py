from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given

from segmnv2.coco.boxes import CocoBoxes
from segmnv2.datasets.dataset_kinds import file_sizes
from segmnv2.errors import DatasetError
from segmnv2.metrics.coco_ap import coco_ap
from tests.damage import check_lawful, damage_json, many, randoms

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")


ONE = torch.ones(1)


def thing(number: int, box: list[float], **changes: Any) -> dict[str, Any]:
    return {"id": number, "image_id": 7, "category_id": 3, "bbox": box, "area": 1.0, "iscrowd": 0, **changes}


def write(root: Path, annotations: list[dict[str, Any]]) -> Path:
    (root / "val2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    for name in ("a.png", "b.png"):
        PIL.Image.fromarray(pixels).save(root / "val2017" / name)
    images = [
        {"id": number, "file_name": name, "height": 40, "width": 60} for number, name in ((9, "b.png"), (7, "a.png"))
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "car"}]}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return root


def test_boxes_are_corners_within_the_image_without_crowds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, beyond = thing(1, [10.0, 5.0, 20.0, 30.0]), thing(2, [50.0, -4.0, 40.0, 20.0])
    left_out = [thing(3, [0.0, 0.0, 9.0, 9.0], iscrowd=1), thing(4, [5.0, 5.0, 0.0, 7.0])]
    dataset = CocoBoxes.of_split(write(tmp_path, [kept, beyond, *left_out]), "val2017")
    assert capsys.readouterr().out == ""
    assert (len(dataset), dataset.ids, dataset.class_names) == (2, [7, 9], {3: "car"})
    picture, target = dataset[0]
    assert (picture.shape, picture.dtype) == ((3, 40, 60), torch.float32)
    assert 0 <= float(picture.min()) < float(picture.max()) <= 1
    assert target["boxes"].tolist() == [[10.0, 5.0, 30.0, 35.0], [50.0, 0.0, 60.0, 16.0]]
    assert (target["labels"].tolist(), target["image_id"]) == ([3, 3], 7)
    _, empty = dataset[1]
    assert (empty["boxes"].shape, empty["labels"].shape) == ((0, 4), (0,))


def test_a_change_of_an_image_changes_the_sizes_that_a_state_records(tmp_path: Path) -> None:
    dataset = CocoBoxes.of_split(write(tmp_path, [thing(1, [10.0, 5.0, 20.0, 30.0])]), "val2017")
    before = list(file_sizes(dataset))
    assert len(before) == 2
    with (tmp_path / "val2017" / "b.png").open("ab") as file:
        file.write(b"x")
    assert list(file_sizes(dataset)) == [before[0], before[1] + 1]


def test_what_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="val2017: does not exist"):
        CocoBoxes.of_split(tmp_path, "val2017")
    write(tmp_path, [])
    with pytest.raises(DatasetError, match="train2017: does not exist"):
        CocoBoxes.of_split(tmp_path, "train2017")
    (tmp_path / "annotations" / "instances_val2017.json").write_text("{")
    with pytest.raises(DatasetError, match=r"instances_val2017\.json: cannot be read as a JSON mapping"):
        CocoBoxes.of_split(tmp_path, "val2017")


def annotation_file(root: Path) -> Path:
    return root / "annotations" / "instances_val2017.json"


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("annotations", {"bbox": [1.0, 2.0, 3.0]}, r"annotations\[0\]\.bbox: list should have at least 4 items"),
        ("annotations", {"bbox": [1.0, "x", 3.0, 4.0]}, r"annotations\[0\]\.bbox\[1\]: .* valid number, found 'x'"),
        ("annotations", {"bbox": [float("nan"), 1.0, 2.0, 3.0]}, r"annotations\[0\]\.bbox\[0\]: .*, found 'nan'"),
        ("annotations", {"bbox": [9.0, 9.0, -5.0, 4.0]}, r"annotations\[0\]\.bbox: .*height is negative"),
        ("annotations", {"category_id": "car"}, r"annotations\[0\]\.category_id: .*integer, found 'car'"),
        ("annotations", {"image_id": 5}, "annotations belong to image 5, which is not in 'images'"),
        ("annotations", {"id": 2}, "the id 2 occurs twice in 'annotations'"),
        ("images", {"id": 7}, "the id 7 occurs twice in 'images'"),
        ("images", {"height": 0}, r"images\[0\]\.height: .*greater than 0, found '0'"),
        ("images", {"file_name": 5}, r"images\[0\]\.file_name: .*string, found '5'"),
        ("images", {"file_name": "\0"}, r"images\[0\]\.file_name"),
        ("images", {"file_name": "a.png"}, "several entries for 1 files, the first is 'a.png'"),
        ("images", {"file_name": "sub/c.png"}, "1 of the 2 images .* are missing, the first is 'sub/c.png'"),
    ],
)
def test_what_is_wrong_with_a_record_is_named(tmp_path: Path, part: str, changes: dict[str, Any], message: str) -> None:
    root = write(tmp_path, [thing(1, [1.0, 1.0, 5.0, 5.0]), thing(2, [1.0, 1.0, 5.0, 5.0])])
    content = json.loads(annotation_file(root).read_text())
    content[part][0].update(changes)
    annotation_file(root).write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=message):
        CocoBoxes.of_split(root, "val2017")


def test_boxes_of_another_form_are_refused(tmp_path: Path) -> None:
    pixels = [[6.0 + i, 3.0 + i, 30.0, 25.0] for i in range(16)]
    CocoBoxes.of_split(write(tmp_path / "right", [thing(i, box) for i, box in enumerate(pixels)]), "val2017")
    corners = [[x, y, x + w, y + h] for x, y, w, h in pixels]
    with pytest.raises(DatasetError, match=r"corners in place of sizes.*\[left, top, width, height\] in pixels"):
        CocoBoxes.of_split(write(tmp_path / "corners", [thing(i, box) for i, box in enumerate(corners)]), "val2017")
    shares = [[x / 60, y / 40, w / 60, h / 40] for x, y, w, h in pixels]
    with pytest.raises(DatasetError, match="no value above 1"):
        CocoBoxes.of_split(write(tmp_path / "shares", [thing(i, box) for i, box in enumerate(shares)]), "val2017")


def test_images_in_folders_of_their_own_are_found(tmp_path: Path) -> None:
    root = write(tmp_path, [])
    (root / "val2017" / "sub").mkdir()
    (root / "val2017" / "a.png").rename(root / "val2017" / "sub" / "a.png")
    annotation_file(root).write_text(annotation_file(root).read_text().replace("a.png", "sub/a.png"))
    assert CocoBoxes.of_split(root, "val2017")[0][1]["name"] == "sub/a.png"


@pytest.mark.parametrize("change", ["turned", "scaled"])
def test_images_of_another_size_than_their_annotations_are_refused(tmp_path: Path, change: str) -> None:
    dataset = CocoBoxes.of_split(write(tmp_path, [thing(1, [50.0, 5.0, 9.0, 9.0])]), "val2017")
    with PIL.Image.open(tmp_path / "val2017" / "a.png") as opened:
        image = opened.resize((30, 20)) if change == "scaled" else opened.copy()
    exif = PIL.Image.Exif()
    exif[0x0112] = 6 if change == "turned" else 1
    image.save(tmp_path / "val2017" / "a.png", exif=exif)
    with pytest.raises(DatasetError, match=r"a.png: the image has .* rows .*_val2017.json states 40 and 60"):
        dataset[0]


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_images_whose_boxes_may_be_turned_or_not_are_refused(tmp_path: Path, orientation: int) -> None:
    dataset = CocoBoxes.of_split(write(tmp_path, [thing(1, [50.0, 5.0, 9.0, 9.0])]), "val2017")
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    with PIL.Image.open(tmp_path / "val2017" / "a.png") as image:
        image.copy().save(tmp_path / "val2017" / "a.png", exif=exif)
    with pytest.raises(
        DatasetError, match=rf"a\.png: is turned by EXIF orientation {orientation}, and .*exif_transpose"
    ):
        dataset[0]


@pytest.mark.parametrize("library", ["pycocotools", "faster_coco_eval"])
def test_a_box_of_id_0_without_area_counts(tmp_path: Path, library: str) -> None:
    pytest.importorskip(library)
    box = thing(0, [10.0, 5.0, 40.0, 30.0])
    del box["area"], box["iscrowd"]
    dataset = CocoBoxes.of_split(write(tmp_path, [box]), "val2017")
    target = dataset[0][1]
    found = {"boxes": target["boxes"], "labels": target["labels"], "scores": torch.ones(1)}
    precision = coco_ap(dataset.coco, {7: found}, library=library)
    assert precision.ap == precision.ap_medium == pytest.approx(100)


def test_boxes_that_are_left_out_of_training_do_not_lower_the_precision(tmp_path: Path) -> None:
    boxes = [[10.0, 5.0, 40.0, 30.0], [5.0, 5.0, 0.0, 9.0], [60.0, 5.0, 9.0, 9.0], [5.0, -9.0, 9.0, 9.0]]
    dataset = CocoBoxes.of_split(write(tmp_path, [thing(n, box, area=0) for n, box in enumerate(boxes)]), "val2017")
    target = dataset[0][1]
    assert target["boxes"].tolist() == [[10.0, 5.0, 50.0, 35.0]]
    precision = coco_ap(dataset.coco, {7: {"boxes": target["boxes"], "labels": target["labels"], "scores": ONE}})
    assert precision.ap == precision.ap_medium == pytest.approx(100)  # an area of 0 would be a small one


def test_categories_of_one_name_are_refused_and_an_unused_background_is_left_out(tmp_path: Path) -> None:
    root = write(tmp_path, [thing(1, [10.0, 5.0, 40.0, 30.0])])
    content = json.loads(annotation_file(root).read_text())
    content["categories"].append({"id": 0, "name": "car"})
    annotation_file(root).write_text(json.dumps(content))
    assert CocoBoxes.of_split(root, "val2017").class_names == {3: "car"}
    content["categories"].append({"id": 4, "name": "car"})
    annotation_file(root).write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="several categories are called 'car'"):
        CocoBoxes.of_split(root, "val2017")


@many
@given(randoms)
def test_reading_boxes_is_lawful(tmp_path: Path, random: Random) -> None:
    if not (tmp_path / "val2017").exists():
        write(tmp_path, [])
    content = {
        "images": [{"id": n, "file_name": f, "height": 40, "width": 60} for n, f in ((7, "a.png"), (9, "b.png"))],
        "annotations": [thing(1, [1.0, 2.0, 9.0, 9.0]), thing(2, [1, 2, 3, 4], iscrowd=1)],
        "categories": [{"id": 3, "name": "car"}],
    }
    annotation_file(tmp_path).write_text(damage_json(content, random))

    def read() -> None:
        dataset = CocoBoxes.of_split(tmp_path, "val2017")
        targets = [dataset[index][1] for index in range(len(dataset))]
        dataset.leave_out_empty()
        found = {each["image_id"]: {**each, "scores": torch.ones(len(each["boxes"]))} for each in targets}
        coco_ap(dataset.coco, found)  # type: ignore[arg-type]

    check_lawful(read)
