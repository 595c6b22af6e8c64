from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segmnv2.nn.pool import DilatedAvgPool2d


@pytest.mark.parametrize("size", [(1, 1), (6, 9), (2, 13)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_it_is_a_depthwise_convolution_of_equal_weights(size: tuple[int, int], stride: int, dilation: int) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    kernel = torch.full((3, 1, 3, 3), 1 / 9, dtype=torch.float64)
    expected = F.conv2d(x, kernel, stride=stride, padding=dilation, dilation=dilation, groups=3)
    torch.testing.assert_close(DilatedAvgPool2d(stride=stride, dilation=dilation)(x), expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_undilated_it_is_torchs_pool(stride: int) -> None:
    x = torch.randn(1, 2, 7, 8)
    assert torch.equal(DilatedAvgPool2d(stride=stride)(x), nn.AvgPool2d(3, stride, padding=1)(x))


@pytest.mark.parametrize("dilation", [2, 4])
def test_dilated_it_pools_each_interleaved_map_alone(dilation: int) -> None:
    x = torch.randn(1, 2, 17, 21, dtype=torch.float64)
    dense = DilatedAvgPool2d(dilation=dilation)(x)
    for row in range(dilation):
        for column in range(dilation):
            alone = DilatedAvgPool2d()(x[..., row::dilation, column::dilation])
            torch.testing.assert_close(dense[..., row::dilation, column::dilation], alone)


def test_dilated_it_exports_with_dynamic_sides() -> None:
    pool = DilatedAvgPool2d(dilation=2)
    side = torch.export.Dim("side", min=4, max=64)
    program = torch.export.export(pool, (torch.randn(1, 2, 9, 11),), dynamic_shapes=({2: side},))
    x = torch.randn(1, 2, 14, 11)
    torch.testing.assert_close(program.module()(x), pool(x))
