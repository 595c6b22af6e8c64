from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from segmnv2.data import coco_voc
from segmnv2.data.coco_index import index_path, open_index, write_index
from segmnv2.data.coco_voc import CocoAsVoc, read_annotations
from segmnv2.errors import DatasetError
from tests.data.test_coco_voc import CAT, DOG, PERSON, Coco, box, instance

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
    indexed = [(sample.name, sample.mask.tobytes()) for sample in CocoAsVoc(coco.root, "val2017", min_pixels=0)]
    index_path(coco.path).unlink()
    assert indexed == [(s.name, s.mask.tobytes()) for s in CocoAsVoc(coco.root, "val2017", min_pixels=0)]


def test_changed_annotations_are_read_anew(coco: Coco) -> None:
    text = coco.path.read_text()
    coco.path.write_text(text.replace("10.5", "99.5"))  # as many bytes as before
    os.utime(coco.path, ns=(1, 1))
    assert open_index(coco.path) is None
    assert CocoAsVoc(coco.root, "val2017", min_pixels=50).names[-1] == "000000000003"
    coco.path.write_text(text + " ")
    assert open_index(coco.path) is None


@pytest.mark.usefixtures("unread")
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
    with pytest.raises(DatasetError, match=r"not in the form .*image_id 77 of no image"):
        coco.open()


def test_files_without_annotations_are_refused(coco: Coco) -> None:
    del coco.content["annotations"]  # as COCO's image_info files are
    with pytest.raises(DatasetError, match=r"not in the form .*'annotations'"):
        coco.open()
