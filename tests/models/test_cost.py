"""Counts compared with Table 7, and with a count by hand from the paper's Table 2."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from segmnv2.backbones.mobilenet_v2 import STAGES
from segmnv2.models.cost import count_parameters, trace_madds, trace_multi_scale_madds
from segmnv2.models.zoo import create_model
from segmnv2.nn.conv import make_divisible

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


@pytest.fixture(autouse=True)
def _without_values(request: pytest.FixtureRequest) -> Iterator[None]:
    device = "cpu" if request.function is test_counting_changes_nothing else "meta"  # only shapes matter
    with torch.device(device):
        yield


def by_hand(size: int, output_stride: int, *, aspp: bool, width: float = 1.0) -> int:
    """Return the multiply-adds of the whole model, counted layer by layer from the table of stages."""
    side, stride, channels = -(-size // 2), 2, make_divisible(32 * width)
    total = side**2 * 9 * 3 * channels
    for expansion, base, repeats, first in STAGES:
        out = make_divisible(base * width)
        for step in [first] + [1] * (repeats - 1):
            hidden = channels * expansion
            total += side**2 * channels * hidden if expansion > 1 else 0
            if step == 2 and stride < output_stride:
                side, stride = -(-side // 2), stride * 2
            total += side**2 * (9 * hidden + hidden * out)
            channels = out
    branches = 2 + 3 * aspp
    total += channels * 256 + side**2 * channels * 256 * (1 + 27 * aspp)
    return total + side**2 * 256 * (branches * 256 + 21)


@pytest.mark.parametrize("aspp", [False, True])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("size", [513, 257])
def test_plain_count_equals_the_count_by_hand(aspp: bool, output_stride: int, size: int) -> None:
    model = create_model("deeplabv3_mobilenet_v2" + "_aspp" * aspp, output_stride=output_stride)
    assert trace_madds(model, (size, size)).plain == by_hand(size, output_stride, aspp=aspp)


@pytest.mark.parametrize("width", [0.35, 0.5, 0.75, 1.4])
def test_plain_count_equals_the_count_by_hand_at_other_widths(width: float) -> None:
    model = create_model("deeplabv3_mobilenet_v2", width=width)
    assert trace_madds(model).plain == by_hand(513, 16, aspp=False, width=width)


@pytest.mark.parametrize(
    ("aspp", "output_stride", "mf", "paper"),
    [(True, 16, False, 5.8e9), (True, 8, True, 387e9), (False, 16, False, 2.75e9), (False, 8, True, 152.6e9)],
)
def test_papers_convention_is_within_half_a_percent_of_table_7(
    aspp: bool, output_stride: int, mf: bool, paper: float
) -> None:
    model = create_model("deeplabv3_mobilenet_v2" + "_aspp" * aspp, output_stride=output_stride)
    counted = trace_multi_scale_madds(model, SCALES, flip=True).paper if mf else trace_madds(model).paper
    assert counted == pytest.approx(paper, rel=0.005)


def test_conventions_agree_without_dilation_and_the_papers_is_larger_with_it() -> None:
    model = create_model("deeplabv3_mobilenet_v2", output_stride=32)
    assert trace_madds(model).plain == trace_madds(model).paper
    model.set_output_stride(8)
    assert trace_madds(model).plain < trace_madds(model).paper


def test_parameters_of_table_7() -> None:
    assert count_parameters(create_model("deeplabv3_mobilenet_v2")) == 2_113_557
    assert round(count_parameters(create_model("deeplabv3_mobilenet_v2_aspp")) / 1e6, 2) == 4.52


def test_half_width_of_deeplabs_zoo_needs_its_divisor() -> None:
    """0.88 billion are published for dm0.5; multiples of eight would give 0.91."""
    half = create_model("deeplabv3_mobilenet_v2", width=0.5, channel_divisor=1)
    assert trace_madds(half).paper / 1e9 == pytest.approx(0.868, abs=0.001)


def test_counting_changes_nothing() -> None:
    model = create_model("deeplabv3_mobilenet_v2", width=0.35).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    trace_madds(model)
    assert model.training
    after = model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert not any(m._forward_hooks for m in model.modules())
