from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from segmnv2.coco.index import index_path, open_index, write_index
from segmnv2.datasets import coco_voc
from segmnv2.datasets.coco_voc import CocoAsVoc, read_annotations
from segmnv2.errors import DatasetError
from tests.damage import check_lawful, damage, damage_json, many, randoms
from tests.dataset_files import iterate
from tests.datasets.test_coco_voc import CAT, DOG, PERSON, Coco, box, instance

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")


@pytest.fixture
def coco(tmp_path: Path) -> Coco:
    """Three images, with an index."""
    made = Coco(
        tmp_path,
        [instance(CAT, box(0, 0, 50, 40)), instance(DOG, box(30, 10, 60, 30), 600.0)],
        [],
        [instance(PERSON, box(3, 4, 5, 9), 10.5)],
    )
    made.path.write_text(json.dumps(made.content))
    write_index(read_annotations(made.path), made.path)
    return made


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Annotations must not be parsed."""

    def refuse(path: Path) -> None:
        pytest.fail(f"{path} is read though its index is good")

    monkeypatch.setattr(coco_voc, "read_annotations", refuse)


def test_an_index_opens_as_what_was_read(coco: Coco) -> None:
    read, opened = read_annotations(coco.path), open_index(coco.path)
    assert opened is not None
    assert opened.files == read.files
    assert opened.areas.tolist() == read.areas.tolist() == [2600.0, 0.0, 10.5]
    assert (opened.sizes == read.sizes).all()
    assert [opened.instances(i) for i in range(3)] == [read.instances(i) for i in range(3)]
    assert isinstance(opened.content, Path)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(("min_pixels", "kept"), [(0, [1, 2, 3]), (10, [1, 3]), (1000, [1])])
def test_the_data_set_takes_any_min_pixels_from_it(coco: Coco, min_pixels: int, kept: list[int]) -> None:
    assert [int(name) for name in CocoAsVoc(coco.root, "val2017", min_pixels=min_pixels).names] == kept


def test_samples_are_the_same_with_and_without_it(coco: Coco) -> None:
    indexed = [
        (sample.name, sample.mask.tobytes()) for sample in iterate(CocoAsVoc(coco.root, "val2017", min_pixels=0))
    ]
    index_path(coco.path).unlink()
    assert indexed == [(s.name, s.mask.tobytes()) for s in iterate(CocoAsVoc(coco.root, "val2017", min_pixels=0))]


def test_changed_annotations_are_read_anew(coco: Coco) -> None:
    text = coco.path.read_text()
    coco.path.write_text(text.replace("10.5", "99.5"))  # as many bytes as before
    os.utime(coco.path, ns=(1, 1))
    assert open_index(coco.path) is None
    assert CocoAsVoc(coco.root, "val2017", min_pixels=50).names[-1] == "000000000003"
    coco.path.write_text(text + " ")
    assert open_index(coco.path) is None


@pytest.mark.usefixtures("unread")
def test_what_a_killed_process_left_is_removed_by_the_next_one(coco: Coco) -> None:
    old, new, other = (coco.path.parent / name for name in (f".{'a' * 32}", f".{'b' * 32}", ".notes"))
    for path, age in ((old, 48), (new, 1), (other, 48)):
        path.with_suffix(".safetensors").touch()
        os.utime(path.with_suffix(".safetensors"), (time.time() - 3600 * age,) * 2)
    write_index(read_annotations(coco.path), coco.path)
    left = {path.stem for path in coco.path.parent.glob(".*.safetensors")}
    assert left == {new.name, other.name}


def test_a_copy_with_another_time_is_known_by_its_checksum(coco: Coco) -> None:
    os.utime(coco.path, ns=(1, 1))
    assert len(CocoAsVoc(coco.root, "val2017", min_pixels=0)) == 3


def test_what_is_no_whole_index_of_this_version_is_not_used(coco: Coco) -> None:
    path = index_path(coco.path)
    whole = path.read_bytes()
    tensors = load_file(path)
    for content in (b"", b"x" * 100, whole[:100], whole[:-1]):
        path.write_bytes(content)
        assert open_index(coco.path) is None
    save_file(tensors, path, {"format": "another"})
    assert open_index(coco.path) is None
    assert len(CocoAsVoc(coco.root, "val2017", min_pixels=0)) == 3


def test_a_file_that_breaks_later_is_named(coco: Coco) -> None:
    dataset = CocoAsVoc(coco.root, "val2017", min_pixels=0)
    path = index_path(coco.path)
    path.write_bytes(path.read_bytes().replace(b"[[", b"??"))
    with pytest.raises(DatasetError, match=r"index.safetensors: cannot be read any more .*prepare-coco"):
        dataset[0]
    path.unlink()
    with pytest.raises(DatasetError, match=r"index.safetensors: cannot be read any more"):
        dataset[0]


def test_other_processes_get_no_copy_of_the_outlines(coco: Coco) -> None:
    outline = box(0, 0, 50, 40)[0] * 1000
    coco.content["annotations"][0]["segmentation"] = [outline]
    coco.path.write_text(json.dumps(coco.content))
    write_index(read_annotations(coco.path), coco.path)
    packed = pickle.dumps(CocoAsVoc(coco.root, "val2017", min_pixels=0))
    assert len(packed) < len(json.dumps(outline)) / 2
    assert len(pickle.loads(packed)[0].mask)


def test_instances_of_no_image_are_refused(coco: Coco) -> None:
    coco.content["annotations"][0]["image_id"] = 77
    with pytest.raises(DatasetError, match="annotations belong to image 77, which is not in 'images'"):
        coco.open()


def test_files_without_annotations_are_refused(coco: Coco) -> None:
    del coco.content["annotations"]  # as COCO's image_info files are
    with pytest.raises(DatasetError, match="has no 'annotations'"):
        coco.open()


Tensors = dict[str, np.ndarray]


def change_index(coco: Coco, change: Callable[[Tensors], object]) -> None:
    """Change the tensors of an index and keep its note."""
    path = index_path(coco.path)
    with safe_open(path, framework="numpy") as file:
        note = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, note)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.update(bounds=tensors["bounds"][:2]),
        lambda tensors: tensors.update(bounds=tensors["bounds"][::-1].copy()),
        lambda tensors: tensors.update(bounds=tensors["bounds"] - 1),
        lambda tensors: tensors.update(sizes=tensors["sizes"][:, :1].copy()),
        lambda tensors: tensors.update(sizes=tensors["sizes"].astype(float)),
        lambda tensors: tensors.update(sizes=-tensors["sizes"]),
        lambda tensors: tensors.update(content=tensors["content"][:-1]),
        lambda tensors: tensors.update(files=np.frombuffer(b"[1, 2, 3]", np.uint8)),
        lambda tensors: tensors.update(files=np.frombuffer(b"[" * 9000, np.uint8)),
    ],
)
def test_an_index_whose_parts_do_not_fit_is_not_used(coco: Coco, change: Callable[[Tensors], object]) -> None:
    change_index(coco, change)
    assert open_index(coco.path) is None
    assert len(CocoAsVoc(coco.root, "val2017", min_pixels=0)) == 3


def open_samples(coco: Coco) -> None:
    dataset = CocoAsVoc(coco.root, "val2017", min_pixels=0)
    for index in range(len(dataset)):
        dataset[index]


@many
@given(randoms)
def test_reading_an_index_is_lawful(coco: Coco, random: Random) -> None:
    path = index_path(coco.path)
    if not hasattr(coco, "whole"):
        coco.whole = path.read_bytes()  # type: ignore[attr-defined]
    path.write_bytes(coco.whole)  # type: ignore[attr-defined]
    name = random.choice(("", "files", "sizes", "areas", "bounds", "content"))
    if name:

        def change(tensors: Tensors) -> None:
            changed = damage(tensors[name].tobytes(), random)
            size = len(changed) // tensors[name].itemsize * tensors[name].itemsize
            values = np.frombuffer(changed[:size], tensors[name].dtype)
            same = values.size == tensors[name].size
            tensors[name] = values.reshape(tensors[name].shape) if same else values

        change_index(coco, change)
    else:
        path.write_bytes(damage(path.read_bytes(), random))
    check_lawful(lambda: open_samples(coco))


@many
@given(randoms)
def test_reading_annotations_as_masks_is_lawful(coco: Coco, random: Random) -> None:
    index_path(coco.path).unlink(missing_ok=True)
    content = {**coco.content, "categories": coco.content["categories"][:20]}
    if random.random() < 0.5:  # outlines alone, since most damage to the rest is found before
        annotations = [each.copy() for each in content["annotations"]]
        text = damage_json(random.choice((box(0, 0, 5, 4), {"size": [40, 60], "counts": [0, 2400]})), random)
        annotations[0]["segmentation"] = "@outline"
        coco.path.write_text(json.dumps({**content, "annotations": annotations}).replace('"@outline"', text))
    else:
        coco.path.write_text(damage_json(content, random))
    check_lawful(lambda: open_samples(coco))
