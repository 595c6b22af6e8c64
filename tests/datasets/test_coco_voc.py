from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from pycocotools import mask as rle

from segmnv2.checks.examination import examine
from segmnv2.datasets.coco_voc import COCO_CATEGORIES, CocoAsVoc, CocoVocSource
from segmnv2.errors import DatasetError, MediaError
from segmnv2.labels import VOC_LABELS

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")

HEIGHT, WIDTH = 40, 60
CAT, DOG, PERSON, PIZZA = 17, 18, 1, 59
VOC_CAT, VOC_DOG, VOC_PERSON = (VOC_LABELS.names.index(name) for name in ("cat", "dog", "person"))


def box(left: int, top: int, right: int, bottom: int) -> list[list[float]]:
    """Return a rectangle as polygon; pycocotools fills rows top..bottom-1 and columns left..right-1 of it."""
    return [[left, top, right, top, right, bottom, left, bottom]]


def runs(inside: np.ndarray) -> dict[str, Any]:
    """Return uncompressed runs of a mask, down the columns, as in COCO's crowds."""
    values = inside.ravel(order="F")
    edges = np.flatnonzero(np.diff(values, prepend=0))
    return {"size": list(inside.shape), "counts": np.diff([0, *edges, values.size]).tolist()}


class Coco:
    """A COCO folder to write, with one list of annotations per image."""

    def __init__(self, root: Path, *images: list[dict[str, Any]]) -> None:
        self.root, self.path = root, root / "annotations/instances_val2017.json"
        self.folder = root / "val2017"
        self.folder.mkdir()
        self.path.parent.mkdir()
        names = [*COCO_CATEGORIES, (PIZZA, "pizza")]
        self.content: dict[str, Any] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": number, "name": name} for number, name in names],
        }
        for number, instances in enumerate(images, start=1):
            file = f"{number:012}.jpg"
            PIL.Image.new("RGB", (WIDTH, HEIGHT), (number, 90, 200)).save(self.folder / file)
            self.content["images"].append({"id": number, "file_name": file, "height": HEIGHT, "width": WIDTH})
            self.content["annotations"] += [
                {"id": 100 * number + i, "image_id": number, "iscrowd": 0, **fields}
                for i, fields in enumerate(instances)
            ]

    def open(self, min_pixels: int = 0) -> CocoAsVoc:
        self.path.write_text(json.dumps(self.content))
        return CocoAsVoc(self.root, "val2017", min_pixels=min_pixels)


def instance(category: int, outline: Any, area: float = 2000.0, **fields: Any) -> dict[str, Any]:
    return {"category_id": category, "segmentation": outline, "area": area, **fields}


def test_every_voc_class_has_cocos_id() -> None:
    ids = [0, 5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72]
    assert [0, *(number for number, _ in COCO_CATEGORIES)] == ids
    alike = [name == voc for (_, name), voc in zip(COCO_CATEGORIES, VOC_LABELS.names[1:], strict=True)]
    assert alike.count(False) == 6, "airplane, dining table, motorcycle, potted plant, couch, tv"


def test_a_mask_is_the_union_of_each_class(tmp_path: Path) -> None:
    annotations = [
        instance(CAT, [*box(2, 3, 10, 9), *box(20, 3, 30, 9)]),  # one object in two parts
        instance(CAT, box(5, 5, 15, 20)),  # overlaps the first one, with the same class
        instance(DOG, box(40, 0, 50, 40)),
        instance(PIZZA, box(0, 0, 60, 40)),  # no class of VOC
    ]
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[3:9, 2:10] = expected[3:9, 20:30] = expected[5:20, 5:15] = VOC_CAT
    expected[:, 40:50] = VOC_DOG
    sample = Coco(tmp_path, annotations).open()[0]
    assert (sample.mask == expected).all()
    assert sample.mask.dtype == np.uint8
    assert sample.image.shape == (HEIGHT, WIDTH, 3)
    assert sample.name == "000000000001"


def test_overlaps_of_classes_are_ignored_in_any_order(tmp_path: Path) -> None:
    annotations = [
        instance(CAT, box(0, 0, 30, 30)),
        instance(DOG, box(20, 10, 50, 30)),
        instance(PERSON, box(25, 0, 60, 40)),
        instance(CAT, box(0, 0, 30, 30)),
    ]
    cat, dog, person = (np.zeros((HEIGHT, WIDTH), bool) for _ in range(3))
    cat[:30, :30] = dog[10:30, 20:50] = person[:, 25:] = True
    expected = cat * VOC_CAT + dog * VOC_DOG + person * VOC_PERSON
    expected[cat.astype(int) + dog + person > 1] = 255
    dataset = Coco(tmp_path, annotations, annotations[::-1]).open()
    assert (dataset[0].mask == expected).all()
    assert (dataset[1].mask == expected).all()


def test_crowds_and_runs_count_as_their_class(tmp_path: Path) -> None:
    crowd = np.zeros((HEIGHT, WIDTH), np.uint8)
    crowd[4:30, 7:41] = np.random.default_rng(1).integers(0, 2, (26, 34))
    crowd[0, 0] = 1
    compressed = rle.encode(np.asfortranarray(crowd))
    compressed["counts"] = compressed["counts"].decode()
    dataset = Coco(
        tmp_path,
        [instance(PERSON, runs(crowd), iscrowd=1)],
        [instance(PERSON, compressed, iscrowd=1)],
        [instance(PERSON, runs(crowd), iscrowd=1), instance(CAT, box(0, 0, 60, 40))],
    ).open()
    assert (dataset[0].mask == crowd * VOC_PERSON).all()
    assert (dataset[1].mask == crowd * VOC_PERSON).all()
    assert (dataset[2].mask == np.where(crowd, 255, VOC_CAT)).all()


def test_outlines_without_area_label_nothing(tmp_path: Path) -> None:
    dataset = Coco(tmp_path, [instance(CAT, []), instance(CAT, [[1, 1, 20, 20]])], []).open()
    assert not dataset[0].mask.any()
    assert not dataset[1].mask.any()


def test_images_need_more_than_min_pixels_of_vocs_classes(tmp_path: Path) -> None:
    coco = Coco(
        tmp_path,
        [instance(CAT, box(0, 0, 9, 9), 600.0), instance(DOG, box(9, 9, 20, 20), 401.0)],
        [instance(CAT, box(0, 0, 9, 9), 1000.0), instance(PIZZA, box(9, 9, 20, 20), 5000.0)],
        [],
    )
    coco.content["images"].reverse()
    assert coco.open(1000).names == ["000000000001"]
    assert coco.open(999).names == ["000000000001", "000000000002"]
    assert len(coco.open(0)) == 3
    with pytest.raises(DatasetError, match=r"none of its 3 images has more than 9999 .*lower min_pixels"):
        coco.open(9999)
    with pytest.raises(DatasetError, match=r"min_pixels is -1"):
        coco.open(-1)


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Coco(tmp_path, [instance(CAT, box(0, 0, 9, 9))]).open()[0]
    assert capfd.readouterr() == ("", "")


def test_the_message_names_a_wrong_root_or_split(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere: does not exist.*'annotations'"):
        CocoAsVoc(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"has no folder 'annotations'"):
        CocoAsVoc(tmp_path)
    Coco(tmp_path, []).open()
    with pytest.raises(DatasetError, match=r"instances_train2017.json: no such file; the splits present are: val2017"):
        CocoAsVoc(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [', "cannot be read as a JSON mapping"),
        ("[]", "cannot be read as a JSON mapping"),
        ('{"images": []}', "has no 'categories' and no 'annotations'"),
    ],
)
def test_the_message_names_damaged_annotations(tmp_path: Path, text: str, message: str) -> None:
    coco = Coco(tmp_path, [])
    coco.path.write_text(text)
    with pytest.raises(DatasetError, match=rf"instances_val2017.json: .*{message}"):
        CocoAsVoc(tmp_path, "val2017")


@pytest.mark.parametrize("field", ["image_id", "area", "segmentation"])
def test_annotations_without_a_field_are_rejected(tmp_path: Path, field: str) -> None:
    coco = Coco(tmp_path, [instance(CAT, box(0, 0, 9, 9))])
    del coco.content["annotations"][0][field]
    with pytest.raises(DatasetError, match=rf"annotations\[0\]\.{field}: field required"):
        coco.open()


def test_other_categories_are_rejected(tmp_path: Path) -> None:
    coco = Coco(tmp_path, [])
    for category in coco.content["categories"]:
        category["id"] -= 1  # numbered from 0, as by some converters
    with pytest.raises(DatasetError, match=r"20 of the 20 categories needed differ .*id 5: 'bus' instead of"):
        coco.open()


def test_one_message_counts_all_missing_images(tmp_path: Path) -> None:
    coco = Coco(tmp_path, [], [], [])
    (coco.folder / "000000000002.jpg").unlink()
    with pytest.raises(DatasetError, match=r"1 of the 3 images .* the first is '000000000002.jpg'"):
        coco.open()
    coco.folder.rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=r"val2017: 3 of the 3 images .*unpack"):
        coco.open()


def test_names_of_samples_include_their_folders(tmp_path: Path) -> None:
    coco = Coco(tmp_path, [], [], [], [])
    files = ("a/x.jpg", "b/x.y.jpg", f"../{tmp_path.name}.jpg", str(tmp_path / "z.jpg"))
    for entry, file in zip(coco.content["images"], files, strict=True):
        (coco.folder / file).parent.mkdir(exist_ok=True)
        (coco.folder / entry["file_name"]).rename(coco.folder / file)
        entry["file_name"] = file
    coco.path.write_text(json.dumps(coco.content))
    dataset = CocoAsVoc(coco.root, "val2017", min_pixels=0)
    assert dataset.names == ["a/x", "b/x.y", tmp_path.name, "z"]


@pytest.mark.parametrize(
    ("size", "orientation", "said"),
    [
        ((WIDTH, HEIGHT), 3, "orientation 3, and its size does not show whether .*val2017.json is turned as well"),
        ((WIDTH, HEIGHT), 2, "orientation 2, and"),
        ((WIDTH, WIDTH), 6, "orientation 6, and"),
        ((HEIGHT, WIDTH), 6, ""),
        ((WIDTH, HEIGHT), 6, "40 rows and 60|60 rows and 40"),
        ((WIDTH, HEIGHT), 1, ""),
        ((WIDTH, HEIGHT), 9, ""),
    ],
)
def test_images_that_may_be_turned_are_rejected(tmp_path: Path, size, orientation: int, said: str) -> None:
    coco = Coco(tmp_path, [instance(CAT, box(0, 0, 20, 20))])
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.new("RGB", size).save(coco.folder / "000000000001.jpg", exif=exif)
    coco.content["images"][0]["height"] = WIDTH if size[0] == size[1] else HEIGHT
    dataset = coco.open()
    if not said:
        assert dataset[0].mask[3, 3] == VOC_CAT
        return
    with pytest.raises(DatasetError, match=said):
        dataset[0]
    (finding,) = examine([CocoVocSource(root=coco.root, split="val2017", min_pixels=0).listing("val2017")]).findings[:1]
    assert finding.kind == ("unreadable-mask" if "rows" in said else "exif-ambiguous")
    assert finding.severity == "error"


def test_images_must_be_undamaged_and_of_the_stated_size(tmp_path: Path) -> None:
    coco = Coco(tmp_path, [], [])
    PIL.Image.new("RGB", (HEIGHT, WIDTH)).save(coco.folder / "000000000001.jpg")
    (coco.folder / "000000000002.jpg").write_bytes(b"no image")
    dataset = coco.open()
    with pytest.raises(DatasetError, match=r"0001.jpg: the image has 60 rows and 40 columns .* states 40 and 60"):
        dataset[0]
    with pytest.raises(MediaError, match=r"0002.jpg: is not an image"):
        dataset[1]


@pytest.mark.parametrize(
    "outline",
    [
        [[0, 0, 9, 0, 9, 9, 1]],
        [[0, 0, 9, 0, 9, 1e12]],
        [[0, 0, 9, 0, 9, float("nan")]],
        [["a"] * 6],
        7,
        {"counts": [9]},
        {"size": [HEIGHT, WIDTH], "counts": [5, 5]},
        {"size": [HEIGHT, WIDTH], "counts": [-1, 1, HEIGHT * WIDTH]},
        {"size": [HEIGHT, WIDTH], "counts": "\x7f"},
        {"size": [HEIGHT, WIDTH], "counts": "00"},
        {"size": [HEIGHT, WIDTH], "counts": "ABC~"},
        {"size": [HEIGHT, WIDTH], "counts": ""},
        {"size": [HEIGHT + 1, WIDTH], "counts": [(HEIGHT + 1) * WIDTH]},
    ],
)
def test_the_message_names_a_damaged_outline(tmp_path: Path, outline: Any) -> None:
    dataset = Coco(tmp_path, [instance(CAT, outline)]).open()
    with pytest.raises(DatasetError, match=r"0001.jpg: the outline of annotation 100 cannot be decoded"):
        dataset[0]
