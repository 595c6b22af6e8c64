from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from segmnv2.datasets.coco_voc import COCO_CATEGORIES, CocoAsVoc, CocoVocSource
from segmnv2.datasets.dataset_kinds import open_dataset
from segmnv2.labels import VOC_LABELS
from tests.dataset_files import iterate

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")

PERSON = VOC_LABELS.names.index("person")


@pytest.fixture(scope="module")
def root(shared: Path) -> Path:
    return shared / "data" / "coco"


@pytest.mark.slow
def test_masks_have_the_annotated_classes(root: Path) -> None:
    content = json.loads((root / "annotations/instances_val2017.json").read_text())
    classes = {number: index for index, (number, _) in enumerate(COCO_CATEGORIES, start=1)}
    areas: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for annotation in content["annotations"]:
        if annotation["category_id"] in classes:
            areas[annotation["image_id"]][classes[annotation["category_id"]]] += annotation["area"]
    dataset = CocoAsVoc(root, "val2017", min_pixels=0)
    assert len(dataset) == len(content["images"]) == 206
    persons = []
    for sample in iterate(dataset):
        assert sample.image.shape[:2] == sample.mask.shape
        present, counts = np.unique(sample.mask, return_counts=True)
        stated = areas[int(sample.name)]
        assert set(present.tolist()) <= {0, 255, *stated}
        for class_id, count in zip(present.tolist(), counts.tolist(), strict=True):
            # Outlines touch pixels that their area leaves out, a tenth more on small objects.
            assert class_id in (0, 255) or count <= 1.2 * stated[class_id] + 50
        if stated.get(PERSON, 0) > 1000:
            assert {PERSON, 255} & set(present.tolist()), f"{sample.name}: neither a person nor one in front of a bus"
            persons.append(PERSON in present)
    assert len(persons) > 50
    assert persons.count(False) <= 1


@pytest.mark.parametrize(("split", "kept"), [pytest.param("val2017", 161, marks=pytest.mark.slow), ("train2017", 40)])
def test_stated_areas_select_the_same_images_as_masks(root: Path, split: str, kept: int) -> None:
    chosen = CocoAsVoc(root, split).names
    labeled = {sample.name: int((sample.mask > 0).sum()) for sample in iterate(CocoAsVoc(root, split, min_pixels=0))}
    assert len(chosen) == kept
    assert chosen == [name for name, count in labeled.items() if count > 1000]


def test_an_experiment_opens_coco(root: Path) -> None:
    source = CocoVocSource(kind="coco_voc", root=root, split="train2017", min_pixels=0)
    dataset = open_dataset(source)
    assert len(dataset) == 50
    assert dataset.labels == VOC_LABELS
