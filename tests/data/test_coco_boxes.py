from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from segmnv2.data.coco_boxes import CocoBoxes
from segmnv2.errors import DatasetError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")


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


def test_what_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="val2017: does not exist"):
        CocoBoxes.of_split(tmp_path, "val2017")
    write(tmp_path, [])
    with pytest.raises(DatasetError, match="train2017: does not exist"):
        CocoBoxes.of_split(tmp_path, "train2017")
    (tmp_path / "annotations" / "instances_val2017.json").write_text("{")
    with pytest.raises(DatasetError, match=r"instances_val2017\.json: holds no annotations"):
        CocoBoxes.of_split(tmp_path, "val2017")
