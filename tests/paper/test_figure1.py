from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from segmnv2.paper.figure1 import (
    DIMENSIONS,
    Figure1,
    Panel,
    draw,
    figure1,
    losses,
    relu,
    round_trip,
    spiral,
    to_markdown,
)


@pytest.fixture(scope="module")
def result() -> Figure1:
    return figure1()


def matrix(dimensions: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((dimensions, 2))


@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_the_round_trip_without_relu_is_the_identity(dimensions: int) -> None:
    points = spiral()
    back = round_trip(points, matrix(dimensions), activation=lambda values: values)
    np.testing.assert_allclose(back, points, atol=1e-12)
    assert np.abs(round_trip(points, matrix(dimensions)) - points).max() > 0.1


def test_relu_keeps_positive_values() -> None:
    np.testing.assert_array_equal(relu(np.array([-2.0, 0.0, 3.0])), [0.0, 0.0, 3.0])


def test_a_matrix_with_both_signs_of_each_row_halves_the_points() -> None:
    half = matrix(4)
    both = np.concatenate([half, -half])  # relu(t) - relu(-t) = t
    points = spiral()
    np.testing.assert_allclose(round_trip(points, both), points / 2, atol=1e-12)
    found = losses(points, both)
    assert found.relative_error == pytest.approx(0.5)
    assert found.unrecovered_variance == pytest.approx(0, abs=1e-12)
    assert found.collapsed == 0


def test_the_unit_matrix_keeps_only_the_first_quadrant() -> None:
    points = spiral()
    inside = (points > 0).all(axis=1)
    output = round_trip(points, np.eye(2))
    np.testing.assert_allclose(output[inside], points[inside])
    assert (output[~inside].min(axis=1) == 0).all()
    assert losses(points, np.eye(2)).collapsed == pytest.approx(1 - inside.mean())


@pytest.mark.parametrize("name", ["relative_error", "unrecovered_variance", "collapsed"])
@pytest.mark.parametrize("seed", [0, 1])
def test_median_losses_fall_with_the_dimensions(name: str, seed: int) -> None:
    medians = [getattr(panel.median, name) for panel in figure1(seed).panels]
    assert medians == sorted(medians, reverse=True)
    assert medians[0] > medians[-1]


def test_the_figure_depends_only_on_the_seed(result: Figure1) -> None:
    assert figure1() == result
    other = figure1(seed=1)
    assert other.spiral == result.spiral
    assert all(a.output != b.output for a, b in zip(result.panels, other.panels, strict=True))


def test_json_has_all_points_of_every_curve(result: Figure1) -> None:
    values = asdict(result)
    assert json.loads(json.dumps(values)) == values
    assert [panel["dimensions"] for panel in values["panels"]] == list(DIMENSIONS)
    assert all(np.shape(panel["output"]) == np.shape(values["spiral"]) for panel in values["panels"])


def test_the_table_has_a_row_for_each_n(result: Figure1) -> None:
    text = to_markdown(result)
    for panel in result.panels:
        assert f"| {panel.dimensions} | {panel.drawn.collapsed:.1%} ({panel.median.collapsed:.1%}) |" in text
    assert "prints no numbers" in text


def test_the_plot_has_the_input_and_every_output(result: Figure1) -> None:
    panels = draw(result).axes[:-1]  # the last is the color bar
    assert [axes.get_title(loc="left") for axes in panels] == ["Input", *(f"n = {n}" for n in DIMENSIONS)]
    for axes, panel in zip(panels[1:], result.panels, strict=True):
        lines = axes.collections[0]
        assert isinstance(lines, LineCollection)
        segments = lines.get_segments()
        np.testing.assert_allclose([segment[0] for segment in segments], panel.output[:-1])
        assert inside(panel, axes.get_xlim())


def inside(panel: Panel, limits: tuple[float, float]) -> bool:
    return limits[0] < np.min(panel.output) and np.max(panel.output) < limits[1]
