from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest

from segmnv2.paper.figure5 import PAPER, PUBLISHED, SLIM, Figure5, Point, agrees, draw, figure5, to_markdown
from segmnv2.paper.table4 import table4


@pytest.fixture(scope="module")
def result() -> Figure5:
    return figure5()


def lines(result: Figure5) -> dict[tuple[str, float], list[Point]]:
    found: dict[tuple[str, float], list[Point]] = {}
    for point in result.points:
        found.setdefault((point.network, point.width), []).append(point)
    return found


def test_costs_of_mobilenet_v2_are_slims_truncated_values(result: Figure5) -> None:
    points = [point for point in result.points if point.network == "MobileNetV2"]
    assert len(points) == 22
    for point in points:
        assert point.madds // 1_000_000 == point.published["madds"]
        assert point.weights / 1e6 == pytest.approx(point.published["params"], abs=0.01)
        assert not point.note


def test_exactly_the_costs_that_differ_from_published_ones_have_a_note(result: Figure5) -> None:
    for point in result.points:
        assert bool(point.note) != agrees(point.madds / 1e6, point.published["madds"], digit=1)
    noted = {(point.network, point.width, point.size) for point in result.points if point.note}
    assert noted == {("MobileNetV1", 0.25, 192), *(("MobileNetV1", 0.75, size) for size in (128, 160, 192, 224))}


def test_the_tolerance_is_a_percent_plus_a_step_of_the_last_digit() -> None:
    assert agrees(11.93, 11, digit=1)
    assert agrees(302, 300, digit=1)
    assert not agrees(304.5, 300, digit=1)
    assert not agrees(30.2, 34, digit=1)


def test_costs_and_accuracy_rise_with_width_and_with_size(result: Figure5) -> None:
    for line in lines(result).values():
        for larger, smaller in pairwise(line):
            assert (larger.size, larger.params) >= (smaller.size, smaller.params)
            assert larger.madds > smaller.madds
            assert larger.top1 > smaller.top1
    by_size = {(p.network, p.width, p.size): p for p in result.points}
    for (network, width, size), point in by_size.items():
        for other in (p for p in result.points if (p.network, p.size) == (network, size) and p.width > width):
            assert other.madds > point.madds
            assert other.params > point.params
            assert other.top1 > point.top1


def test_table4_has_the_same_costs(result: Figure5) -> None:
    costs = {(round(row.params), row.madds) for row in table4()}
    shown = {(point.params, point.madds) for point in result.points if point.size == 224}
    assert costs <= shown


def test_every_point_occurs_once_and_has_its_source() -> None:
    keys = [(point.network, point.width, point.size) for point in PUBLISHED]
    assert len(set(keys)) == len(keys)
    for point in PUBLISHED:
        assert point.source == (SLIM if point.network.startswith("MobileNet") else PAPER)


def test_json_round_trip_keeps_every_point(result: Figure5) -> None:
    values = json.loads(json.dumps(asdict(result)))
    assert Figure5([Point(**point) for point in values["points"]]) == result


def test_the_table_has_a_row_for_each_point(result: Figure5) -> None:
    text = to_markdown(result)
    for point in result.points:
        assert f"| {point.network} | {point.width} | {point.size} | {point.top1:.1f} |" in text
    assert "was not measured here" in text


def test_the_plot_has_every_point_on_a_logarithmic_axis(result: Figure5) -> None:
    (axes,) = draw(result).axes
    shown = {(x, y) for line in axes.lines for x, y in np.asarray(line.get_xydata())}
    assert shown == {(point.madds / 1e6, point.top1) for point in result.points}
    assert axes.get_xscale() == "log"
    legend = axes.get_legend()
    assert legend is not None
    families = [text.get_text() for text in legend.get_texts()]
    assert families == ["MobileNetV2", "MobileNetV1", "ShuffleNet", "NASNet-A"]
