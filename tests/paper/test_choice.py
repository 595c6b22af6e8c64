from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmnv2.errors import ConfigError
from segmnv2.inference.canvas import SCALES
from segmnv2.paper.choice import (
    PUBLISHED,
    SCALE_SETS,
    SIZES,
    WIDTHS,
    Choice,
    distance,
    find_published,
    list_choices,
    maximal,
)
from segmnv2.paper.table7 import SIZE, TABLE7

CHOICES = st.builds(
    Choice,
    st.just("mobilenet_v2"),
    st.sampled_from(WIDTHS["mobilenet_v2"][:3]),
    st.sampled_from([8, 16, 32]),
    st.booleans(),
    st.sampled_from(SIZES[:3]),
    st.sampled_from([*SCALE_SETS, (1.0, 2.0)]),  # the last is neither more nor less than the other sets
    st.booleans(),
)


@given(CHOICES, CHOICES, CHOICES)
def test_at_least_is_a_partial_order(a: Choice, b: Choice, c: Choice) -> None:
    assert a.at_least(a)
    assert (a.at_least(b) and b.at_least(a)) == (a == b)
    if a.at_least(b) and b.at_least(c):
        assert a.at_least(c)


@given(st.lists(CHOICES, unique=True, max_size=30))
def test_none_kept_is_dominated_and_each_dropped_one_is_by_a_kept_one(choices: list[Choice]) -> None:
    kept = maximal(choices)
    assert [choice for choice in choices if choice in kept] == kept
    for choice in choices:
        better = [one for one in kept if one != choice and one.at_least(choice)]
        assert (choice in kept) == (not better)


def test_the_best_of_all_choices_is_one() -> None:
    best = Choice("mobilenet_v2", 1.4, 8, True, 769, SCALE_SETS[-1], flip=True)
    assert maximal(list_choices()) == [best]


def test_each_set_of_scales_contains_the_one_before() -> None:
    for less, more in pairwise(SCALE_SETS):
        assert set(less) < set(more)


def test_choices_can_be_narrowed() -> None:
    choices = list_choices("mobilenet_v1", widths=[0.5, 0.5], sizes=[257])
    assert {(one.backbone, one.width, one.size) for one in choices} == {("mobilenet_v1", 0.5, 257)}
    assert len(set(choices)) == len(choices) == 3 * 2 * len(SCALE_SETS) * 2


def test_differences_are_counted() -> None:
    one = Choice("mobilenet_v2", 1.0, 16, False, 513)
    assert one.differences(one) == 0
    assert one.differences(Choice("mobilenet_v2", 0.5, 16, False, 257, flip=True)) == 3


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"backbone": "resnet101"}, ["'resnet101'", "mobilenet_v1 or mobilenet_v2"]),
        ({"widths": [0.0]}, ["width 0.0", "0.05..4.0", "0.35"]),
        ({"widths": [float("nan")]}, ["width nan"]),
        ({"sizes": [512]}, ["size 512", "481 or 513"]),
        ({"sizes": [33]}, ["size 33", "give 65"]),
        ({"sizes": [-5]}, ["size -5", "give 65"]),
    ],
)
def test_a_fault_is_named_with_its_remedy(arguments: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        list_choices(**arguments)  # type: ignore[arg-type]
    for part in parts:
        assert part in str(caught.value)


def test_published_choices_are_the_rows_of_table_7_on_these_backbones() -> None:
    def is_planned(model: str) -> bool:
        return any(model.removesuffix("_aspp") == f"deeplabv3_{backbone}" for backbone in WIDTHS)

    printed = {(r.model, r.output_stride, r.aspp, r.mf, r.miou) for r in TABLE7 if is_planned(r.model)}
    ours = {(p.choice.model, p.choice.output_stride, p.choice.aspp, p.choice.flip, p.miou) for p in PUBLISHED}
    assert ours == printed
    for one in PUBLISHED:
        assert (one.choice.width, one.choice.size) == (1.0, SIZE)
        assert one.choice.scales == (SCALES if one.choice.flip else (1.0,))


def test_published_choices_are_among_those_planned_and_found() -> None:
    choices = [*list_choices("mobilenet_v1"), *list_choices("mobilenet_v2")]
    assert {choice for choice in choices if find_published(choice)} == {one.choice for one in PUBLISHED}
    assert all((distance(choice) == 0) == (find_published(choice) is not None) for choice in choices)
