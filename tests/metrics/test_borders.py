from __future__ import annotations

import numpy as np
import pytest

from segmnv2.metrics.borders import Borders, border_distance, inner_boundary


def square(left: int = 20) -> np.ndarray:
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[15:45, left : left + 30] = 1
    return mask


def test_the_boundary_of_a_square_is_its_frame():
    area = square() == 1
    frame = area.copy()
    frame[18:42, 23:47] = False
    assert np.array_equal(inner_boundary(area, 3), frame)
    whole = np.ones((9, 9), dtype=bool)
    assert inner_boundary(whole, 2).sum() == 81 - 25, "the image's edge is a border too"


def test_distances_are_those_to_the_nearest_border_pixel():
    mask = np.zeros((5, 20), dtype=np.uint8)
    mask[:, 10:] = 1
    assert border_distance(mask)[2].tolist() == [*range(10, 0, -1), *range(1, 11)]
    assert np.isinf(border_distance(mask[:, :5])).all()


def test_a_perfect_prediction_has_boundary_iou_1_and_a_flat_curve():
    borders = Borders(2, 255)
    borders.update(square(), square())
    assert borders.boundary_iou == 1
    assert set(borders.curve().values()) == {1}


def test_a_perfect_prediction_is_perfect_beside_ignored_pixels():
    mask = square()
    mask[:15] = 255
    borders = Borders(2, 255)
    borders.update(mask, square())
    assert borders.boundary_iou == 1


def test_a_shift_costs_the_most_near_the_border():
    borders = Borders(2, 255)
    borders.update(square(20), square(21))
    curve = list(borders.curve().values())
    assert curve == sorted(curve)
    assert curve[0] < curve[-1] < 1
    assert 0 < borders.boundary_iou < 1


def test_boundary_iou_is_its_definition():
    truth, found = square(20), square(23)
    borders = Borders(2, 255)
    borders.update(truth, found)
    values = []
    for index in (0, 1):
        ours, theirs = (inner_boundary(mask == index, round(0.02 * 100)) for mask in (truth, found))
        values.append((ours & theirs).sum() / (ours | theirs).sum())
    assert borders.boundary_iou == pytest.approx(np.mean(values))


def test_ignored_pixels_do_not_count():
    mask = square()
    mask[:, :40] = 255
    wrong = square()
    wrong[:, :40] = 1 - wrong[:, :40]
    ignored, right = Borders(2, 255), Borders(2, 255)
    right.update(mask, square())
    ignored.update(mask, wrong)
    assert [each.counts.tolist() for each in ignored.bands.values()] == [
        each.counts.tolist() for each in right.bands.values()
    ]


def test_nothing_counted_has_no_figures():
    borders = Borders(2, 255)
    borders.update(np.full((4, 4), 255, np.uint8), np.zeros((4, 4), np.uint8))
    assert np.isnan(borders.boundary_iou)
    assert np.isnan(list(borders.curve().values())).all()
