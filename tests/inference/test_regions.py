from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Outline
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from segmnv2.errors import ConfigError
from segmnv2.inference.regions import (
    bounding_box,
    class_id,
    class_shares,
    encode_rle,
    found_classes,
    to_coco,
    trace_polygons,
)
from segmnv2.labels import IGNORE_INDEX, VOC_LABELS, LabelSet

AREAS = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))
LABELS = LabelSet(("background", "cat", "dog"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)))


def fill(polygons, shape):
    """Return the pixels whose centers are inside a polygon and outside its holes."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    centers = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    inside = np.zeros(len(centers), dtype=int)
    for polygon in polygons:
        inside += Outline(polygon.exterior).contains_points(centers)
        for hole in polygon.holes:
            inside -= Outline(hole).contains_points(centers)
    assert set(np.unique(inside)) <= {0, 1}, "regions overlap, or a hole is outside"
    return inside.reshape(shape).astype(bool)


@given(AREAS)
def test_polygons_hold_exactly_the_pixel_centers_of_an_area(area):
    assert np.array_equal(fill(trace_polygons(area), area.shape), area)


def test_a_polygon_has_corners_only_and_holes_apart():
    area = np.zeros((40, 60), dtype=bool)
    area[5:35, 10:50] = True
    area[10:20, 20:30] = False
    (polygon,) = trace_polygons(area)
    assert len(polygon.exterior) == 8  # four corners, each cut
    assert [len(hole) for hole in polygon.holes] == [8]
    assert polygon.exterior.min(0).tolist() == [10, 5]
    assert polygon.exterior.max(0).tolist() == [50, 35]


def test_a_tolerance_gives_fewer_points_no_farther_away():
    rows, columns = np.mgrid[:200, :200]
    disk = (rows - 100) ** 2 + (columns - 100) ** 2 < 80**2
    (exact,), (simple,) = trace_polygons(disk), trace_polygons(disk, tolerance=2.0)
    assert len(simple.exterior) < len(exact.exterior) / 5
    radii = np.hypot(*(simple.exterior - 100.5).T)
    assert np.all(np.abs(radii - 80) < 3)


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf"), "1", True])
def test_a_tolerance_that_is_no_distance_is_refused(tolerance):
    with pytest.raises(ConfigError, match=r"tolerance.*at least 0"):
        trace_polygons(np.ones((3, 3), dtype=bool), tolerance)


@given(AREAS)
def test_run_lengths_decode_to_the_area(area):
    encoded = encode_rle(area)
    json.dumps(encoded)
    assert np.array_equal(coco_mask.decode({**encoded, "counts": encoded["counts"].encode()}).astype(bool), area)


@given(AREAS.filter(np.any))
def test_a_box_is_pycocotools_box(area):
    assert list(bounding_box(area)) == coco_mask.toBbox(coco_mask.encode(np.asfortranarray(area, np.uint8))).tolist()


@given(arrays(np.uint8, (7, 9), elements=st.sampled_from([0, 1, 2, IGNORE_INDEX])))
def test_a_coco_data_set_is_read_back_by_pycocotools(mask):
    values = json.loads(json.dumps(to_coco(mask, LABELS, "a.jpg", 7)))
    data = COCO()
    data.dataset = values
    data.createIndex()
    assert data.loadImgs(7)[0] == {"id": 7, "file_name": "a.jpg", "height": 7, "width": 9}
    assert [category["name"] for category in data.loadCats(data.getCatIds())] == ["cat", "dog"]
    found = {each["category_id"]: each for each in data.loadAnns(data.getAnnIds(7))}
    assert sorted(found) == found_classes(mask, LABELS)
    for index, annotation in found.items():
        assert np.array_equal(data.annToMask(annotation).astype(bool), mask == index)
        assert annotation["area"] == (mask == index).sum()


def test_shares_are_of_all_pixels_the_largest_first():
    mask = np.array([[1, 1, 1, 2], [0, 0, IGNORE_INDEX, IGNORE_INDEX]], dtype=np.uint8)
    assert list(class_shares(mask, LABELS).items()) == [("cat", 3 / 8), ("background", 2 / 8), ("dog", 1 / 8)]


def test_classes_are_given_by_name_or_id():
    assert class_id(VOC_LABELS, "person") == class_id(VOC_LABELS, 15) == class_id(VOC_LABELS, np.uint8(15)) == 15


@pytest.mark.parametrize("name", ["people", 21, -1, True, None, 1.0])
def test_other_classes_are_refused_with_the_names(name):
    with pytest.raises(ConfigError, match=r"no class of this model.*0\.\.20.*person"):
        class_id(VOC_LABELS, name)
