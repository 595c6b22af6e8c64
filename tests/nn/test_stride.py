from __future__ import annotations

import math

import pytest
import torch

from segmnv2.errors import ConfigError
from segmnv2.nn.stride import (
    OUTPUT_STRIDES,
    check_output_stride,
    plan_strides_and_dilations,
    resize_bilinear,
    scaled_side,
)

NOMINAL = (2, 1, 2, 1, 2, 1, 1, 2, 1, 1)


@pytest.mark.parametrize("output_stride", OUTPUT_STRIDES)
def test_strides_multiply_to_the_output_stride(output_stride: int) -> None:
    assert math.prod(stride for stride, _ in plan_strides_and_dilations(NOMINAL * 2, output_stride)) == output_stride


def test_a_layer_whose_stride_is_replaced_keeps_the_dilation_before_it() -> None:
    assert plan_strides_and_dilations((2, 2, 2, 1, 2, 1, 2, 1), 8) == [
        (2, 1), (2, 1), (2, 1), (1, 1), (1, 1), (1, 2), (1, 2), (1, 4),
    ]  # fmt: skip


@pytest.mark.parametrize("value", [4, 12, 0])
def test_other_output_strides_are_refused_with_the_allowed_ones(value: int) -> None:
    with pytest.raises(ConfigError, match="8, 16, 32"):
        check_output_stride(value)


def test_corners_stay_corners_and_samples_are_at_the_stride() -> None:
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    big = resize_bilinear(x, (4 * 8 + 1, 3 * 8 + 1))
    torch.testing.assert_close(big[..., ::8, ::8], x)


def test_same_size_is_the_identity() -> None:
    x = torch.randn(1, 2, 6, 7)
    assert resize_bilinear(x, (6, 7)) is x


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3)])
def test_a_single_sample_fills_any_size(size: tuple[int, int]) -> None:
    out = resize_bilinear(torch.tensor([[[[3.0]], [[-1.0]]]]), size)
    assert out.shape == (1, 2, *size)
    assert torch.equal(out[0, 0], torch.full(size, 3.0))


def test_a_linear_ramp_stays_linear() -> None:
    ramp = torch.linspace(0, 1, 9, dtype=torch.float64).expand(1, 1, 3, 9)
    expected = torch.linspace(0, 1, 33, dtype=torch.float64)
    torch.testing.assert_close(resize_bilinear(ramp, (7, 33))[0, 0, 4], expected)


def test_scaled_sides_are_those_of_the_paper() -> None:
    assert [scaled_side(513, s) for s in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)] == [257, 385, 513, 641, 769, 897]
