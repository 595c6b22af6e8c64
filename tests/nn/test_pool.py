from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segmnv2.nn.pool import SameAveragePool, SameMaxPool


def zeros_counted(stride: int = 1, dilation: int = 1) -> SameAveragePool:
    pool = SameAveragePool(padding="symmetric", count_zeros=True)
    pool.set_stride_and_dilation(stride, dilation)
    return pool


@pytest.mark.parametrize("size", [(1, 1), (6, 9), (2, 13)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_it_is_a_depthwise_convolution_of_equal_weights(size: tuple[int, int], stride: int, dilation: int) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    kernel = torch.full((3, 1, 3, 3), 1 / 9, dtype=torch.float64)
    expected = F.conv2d(x, kernel, stride=stride, padding=dilation, dilation=dilation, groups=3)
    torch.testing.assert_close(zeros_counted(stride=stride, dilation=dilation)(x), expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_undilated_it_is_torchs_pool(stride: int) -> None:
    x = torch.randn(1, 2, 7, 8)
    assert torch.equal(zeros_counted(stride=stride)(x), nn.AvgPool2d(3, stride, padding=1)(x))


@pytest.mark.parametrize("dilation", [2, 4])
def test_dilated_it_pools_each_interleaved_map_alone(dilation: int) -> None:
    x = torch.randn(1, 2, 17, 21, dtype=torch.float64)
    dense = zeros_counted(dilation=dilation)(x)
    for row in range(dilation):
        for column in range(dilation):
            alone = zeros_counted()(x[..., row::dilation, column::dilation])
            torch.testing.assert_close(dense[..., row::dilation, column::dilation], alone)


def test_dilated_it_exports_with_dynamic_sides() -> None:
    pool = zeros_counted(dilation=2)
    side = torch.export.Dim("side", min=4, max=64)
    program = torch.export.export(pool, (torch.randn(1, 2, 9, 11),), dynamic_shapes=({2: side},))
    x = torch.randn(1, 2, 14, 11)
    torch.testing.assert_close(program.module()(x), pool(x))


@pytest.mark.parametrize("size", [(8, 10), (9, 7)])
def test_pools_are_torchs_with_tensorflows_padding(size: tuple[int, int]) -> None:
    """On an even side, TensorFlow's samples begin at the edge and run out of the map at the other end."""
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    average, largest = SameAveragePool(), SameMaxPool()
    average.set_stride_and_dilation(2, 1)
    largest.set_stride_and_dilation(2, 1)
    pad = [size[0] % 2, size[1] % 2]
    wanted = F.avg_pool2d(x, 3, 2, pad, ceil_mode=True, count_include_pad=False)
    torch.testing.assert_close(average(x), wanted)
    torch.testing.assert_close(largest(x), F.max_pool2d(x, 3, 2, pad, ceil_mode=True))


@pytest.mark.parametrize("kind", [SameAveragePool, SameMaxPool])
def test_a_dilated_pool_is_the_plain_one_on_each_grid(kind: type[nn.Module]) -> None:
    x, pool = torch.randn(2, 3, 9, 12, dtype=torch.float64), kind()
    plain = {(r, c): pool(x[..., r::3, c::3]) for r in range(3) for c in range(3)}
    pool.set_stride_and_dilation(1, 3)  # type: ignore[operator]
    dilated = pool(x)
    for (row, column), wanted in plain.items():
        torch.testing.assert_close(dilated[..., row::3, column::3], wanted)


def test_a_mean_leaves_out_what_lies_beyond_the_edge() -> None:
    pool = SameAveragePool()
    for rate in ((1, 1), (2, 1), (1, 2), (1, 4)):
        pool.set_stride_and_dilation(*rate)
        assert torch.equal(pool(torch.ones(1, 1, 6, 7)), torch.ones(1, 1, -(-6 // rate[0]), -(-7 // rate[0])))


@pytest.mark.parametrize("size", [(8, 10), (9, 7)])
def test_symmetric_pools_are_torchs(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    pool = SameMaxPool(padding="symmetric")
    for stride in (1, 2):
        pool.set_stride_and_dilation(stride, 1)
        assert torch.equal(pool(x), F.max_pool2d(x, 3, stride, padding=1))
