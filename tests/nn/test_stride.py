from __future__ import annotations

import math

import pytest

from segmnv2.errors import ConfigError
from segmnv2.nn.stride import OUTPUT_STRIDES, check_output_stride, plan_strides_and_dilations

NOMINAL = (2, 1, 2, 1, 2, 1, 1, 2, 1, 1)


@pytest.mark.parametrize("output_stride", OUTPUT_STRIDES)
def test_strides_multiply_to_the_output_stride(output_stride: int) -> None:
    assert math.prod(stride for stride, _ in plan_strides_and_dilations(NOMINAL * 2, output_stride)) == output_stride


def test_the_layer_that_would_stride_keeps_the_dilation_reached_before_it() -> None:
    assert plan_strides_and_dilations((2, 2, 2, 1, 2, 1, 2, 1), 8) == [
        (2, 1), (2, 1), (2, 1), (1, 1), (1, 1), (1, 2), (1, 2), (1, 4),
    ]  # fmt: skip


@pytest.mark.parametrize("value", [4, 12, 0])
def test_other_output_strides_are_refused_with_the_allowed_ones(value: int) -> None:
    with pytest.raises(ConfigError, match="8, 16, 32"):
        check_output_stride(value)
