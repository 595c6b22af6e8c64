from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmnv2.errors import ConfigError
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

CHOICES = st.builds(
    Choice,
    st.just("mobilenet_v2"),
    st.sampled_from(WIDTHS["mobilenet_v2"][:3]),
    st.sampled_from([8, 16, 32]),
    st.booleans(),
    st.sampled_from(SIZES[:3]),
    st.sampled_from([*SCALE_SETS, (1.0, 2.0)]),  # the last is neither a subset nor a superset of another one
    st.booleans(),
)


@given(CHOICES, CHOICES, CHOICES)
def test_at_least_is_a_partial_order(a: Choice, b: Choice, c: Choice) -> None:
    assert a.at_least(a)
    assert (a.at_least(b) and b.at_least(a)) == (a == b)
    if a.at_least(b) and b.at_least(c):
        assert a.at_least(c)


@given(st.lists(CHOICES, unique=True, max_size=30))
def test_a_choice_is_maximal_unless_a_maximal_one_is_better(choices: list[Choice]) -> None:
    kept = maximal(choices)
    assert [choice for choice in choices if choice in kept] == kept
    for choice in choices:
        better = [one for one in kept if one != choice and one.at_least(choice)]
        assert (choice in kept) == (not better)


def test_all_choices_have_one_maximal_choice() -> None:
    best = Choice("mobilenet_v2", 1.4, 8, True, 769, SCALE_SETS[-1], flip=True)
    assert maximal(list_choices()) == [best]


def test_each_set_of_scales_contains_the_one_before() -> None:
    for less, more in pairwise(SCALE_SETS):
        assert set(less) < set(more)


def test_choices_can_be_restricted() -> None:
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
def test_invalid_arguments_are_refused_with_the_remedy(arguments: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        list_choices(**arguments)  # type: ignore[arg-type]
    for part in parts:
        assert part in str(caught.value)


def test_published_choices_are_the_printed_rows() -> None:
    six = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    printed = {  # MobileNetV2, Table 7
        Choice("mobilenet_v1", 1.0, 16, True, 513): 75.29,
        Choice("mobilenet_v1", 1.0, 8, True, 513, six, flip=True): 78.56,
        Choice("mobilenet_v2", 1.0, 16, True, 513): 75.70,
        Choice("mobilenet_v2", 1.0, 8, True, 513, six, flip=True): 78.42,
        Choice("mobilenet_v2", 1.0, 16, False, 513): 75.32,
        Choice("mobilenet_v2", 1.0, 8, False, 513, six, flip=True): 77.33,
    }
    assert {one.choice: one.miou for one in PUBLISHED} == printed


def test_published_choices_are_among_all_choices() -> None:
    choices = [*list_choices("mobilenet_v1"), *list_choices("mobilenet_v2")]
    assert {choice for choice in choices if find_published(choice)} == {one.choice for one in PUBLISHED}
    assert all((distance(choice) == 0) == (find_published(choice) is not None) for choice in choices)
