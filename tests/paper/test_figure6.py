from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
import torch

from segmnv2.errors import ConfigError
from segmnv2.paper.figure6 import PANELS, VARIANTS, Figure6, draw, figure6, to_markdown


@pytest.fixture(scope="module")
def result() -> Figure6:
    return figure6(steps=2, seeds=2)


def test_every_kind_of_model_has_its_curves(result: Figure6) -> None:
    assert [curve.variant for curve in result.curves] == list(VARIANTS)
    assert {variant for variants in PANELS.values() for variant in variants} == set(VARIANTS)
    assert result.evaluated == (1, 2)
    for curve in result.curves:
        assert len(curve.accuracy) == 2
        for values in curve.accuracy:
            assert len(values) == 2
            assert all(0 <= value <= 100 for value in values)
        for mean, (low, high) in zip(curve.mean(), curve.span(), strict=True):
            assert low <= mean <= high
    assert json.loads(json.dumps(asdict(result)))["parameters"] == result.parameters


def test_the_figure_depends_only_on_its_arguments(result: Figure6) -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    calls: list[tuple[int, int]] = []
    again = figure6(steps=2, seeds=2, progress=lambda done, total: calls.append((done, total)))
    assert torch.equal(torch.rand(2), expected)
    assert again == result
    assert calls == [(done, 16) for done in range(1, 17)]


def test_table_and_plot_are_not_mistaken_for_imagenet(result: Figure6) -> None:
    text = to_markdown(result)
    assert text.count("\n| 6") == 4
    assert "small-scale replication, not ImageNet" in text
    assert "means of 2 trainings" in text
    figure = draw(result)
    first, second = figure.axes
    assert len(first.get_legend().get_texts()) == 2
    assert len(second.get_legend().get_texts()) == 3
    assert "not ImageNet" in figure.get_supxlabel()


@pytest.mark.parametrize("arguments", [{"steps": 0}, {"seeds": 0}])
def test_numbers_below_1_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="give at least 1 of each"):
        figure6(**arguments)
