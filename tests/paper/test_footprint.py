"""Costs from one trace equal those counted pass by pass."""

from __future__ import annotations

import pytest
import torch

from segmnv2.models.cost import count_parameters, trace_multi_scale_madds
from segmnv2.models.zoo import create_model
from segmnv2.paper.choice import SCALE_SETS, Choice, list_choices
from segmnv2.paper.footprint import cost, pass_sides


@pytest.mark.parametrize(
    "choice",
    [
        Choice("mobilenet_v2", 0.35, 8, True, 129),
        Choice("mobilenet_v2", 1.4, 32, False, 193, SCALE_SETS[-1], flip=True),  # scaled sides that strides 16, 32 pad
        Choice("mobilenet_v2", 0.75, 16, True, 257, SCALE_SETS[1]),
        Choice("mobilenet_v2", 1.0, 8, False, 513, flip=True),
        Choice("mobilenet_v1", 0.5, 8, True, 193, SCALE_SETS[2], flip=True),
        Choice("mobilenet_v1", 1.0, 32, True, 65, SCALE_SETS[-1]),
    ],
    ids=str,
)
def test_costs_equal_those_counted_pass_by_pass(choice: Choice) -> None:
    with torch.device("meta"):
        model = create_model(choice.model, width=choice.width, output_stride=choice.output_stride)
    found, size = cost(choice), (choice.size, choice.size)
    assert found.params == count_parameters(model)
    expected = trace_multi_scale_madds(model, choice.scales, flip=choice.flip, size=size)
    assert (found.madds, found.madds_paper) == (expected.plain, expected.paper)


def test_a_better_choice_at_one_output_stride_is_dearer() -> None:
    choices = [c for c in list_choices(widths=[0.35, 0.5], sizes=[129, 257]) if c.output_stride == 16]
    for one in choices:
        for other in choices:
            if one != other and one.at_least(other):
                assert cost(one).madds > cost(other).madds


def test_passes_are_the_scaled_canvas_and_its_mirror() -> None:
    choice = Choice("mobilenet_v2", 1.0, 16, False, 513, (0.5, 1.0), flip=True)
    assert list(pass_sides(choice)) == [257, 257, 513, 513]
    assert choice.passes == 4
