from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segmnv2.errors import ConfigError
from segmnv2.nn.conv import PooledBatchNorm2d, SameAveragePool, SameConv2d, SameMaxPool, make_divisible


def tensorflow_same(x: Tensor, kernel: Tensor, stride: int, dilation: int) -> Tensor:
    """Return a one-channel convolution by TensorFlow's definition of SAME, computed weight by weight."""
    size, reach = x.shape[-1], dilation * (kernel.shape[-1] - 1)
    count = -(-size // stride)
    before = max((count - 1) * stride + reach + 1 - size, 0) // 2
    out = torch.zeros(count, count, dtype=x.dtype)
    for i, j, u, v in itertools.product(range(count), range(count), range(kernel.shape[-1]), range(kernel.shape[-1])):
        row, column = i * stride - before + u * dilation, j * stride - before + v * dilation
        if 0 <= row < size and 0 <= column < size:
            out[i, j] += kernel[u, v] * x[row, column]
    return out


@pytest.mark.parametrize("size", [1, 2, 5, 6, 9])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (1, 4)])
def test_tensorflow_padding_samples_where_tensorflow_does(size: int, stride: int, dilation: int) -> None:
    conv = SameConv2d(1, 1, 3, stride=stride, dilation=dilation).double()
    x = torch.randn(size, size, dtype=torch.float64)
    expected = tensorflow_same(x, conv.weight[0, 0], stride, dilation)
    torch.testing.assert_close(conv(x[None, None])[0, 0], expected)


@pytest.mark.parametrize("size", [(5, 9), (33, 1)])
def test_paddings_agree_on_odd_sides_and_differ_on_even_ones(size: tuple[int, int]) -> None:
    ours, theirs = SameConv2d(2, 3, 3, stride=2), SameConv2d(2, 3, 3, stride=2, padding="symmetric")
    theirs.load_state_dict(ours.state_dict())
    odd = torch.randn(1, 2, *size)
    torch.testing.assert_close(ours(odd), theirs(odd))
    even = torch.randn(1, 2, 8, 8)
    assert ours(even).shape == theirs(even).shape
    assert not torch.allclose(ours(even), theirs(even))


def test_mixed_even_and_odd_sides() -> None:
    conv = SameConv2d(1, 1, 3, stride=2).double()
    x = torch.randn(9, 9, dtype=torch.float64)
    x[8] = 0  # SAME pads eight rows with such a row of zeros
    square = conv(x[None, None])[0, 0]
    assert conv(x[None, None, :8])[0, 0].shape == (4, 5)
    assert square.shape == (5, 5)


def test_a_change_of_stride_and_dilation_keeps_the_weights() -> None:
    conv = SameConv2d(1, 1, 3, stride=2)
    weight = conv.weight.clone()
    conv.set_stride_and_dilation(1, 3)
    assert conv(torch.zeros(1, 1, 9, 7)).shape == (1, 1, 9, 7)
    assert torch.equal(conv.weight, weight)


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ConfigError, match="kernel_size 2"):
        SameConv2d(1, 1, 2)


@pytest.mark.parametrize("width", [0.25, 0.35, 0.5, 0.75, 1.0, 1.3, 1.4])
@pytest.mark.parametrize("channels", [16, 24, 32, 64, 96, 160, 320, 1280])
def test_rounding_gives_a_multiple_near_the_exact_count(channels: int, width: float) -> None:
    rounded = make_divisible(channels * width)
    assert rounded % 8 == 0
    assert rounded >= 8
    assert rounded >= 0.9 * channels * width
    assert rounded <= max(8, 1.1 * channels * width + 8)
    assert abs(make_divisible(channels * width, 1) - channels * width) <= 0.5


def test_pooled_norm_of_a_single_value_uses_and_keeps_the_running_statistics() -> None:
    norm = PooledBatchNorm2d(3)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    x = torch.randn(1, 3, 1, 1, requires_grad=True)
    trained = norm(x)
    assert norm.running_mean.tolist() == [1.0, 2.0, 3.0]
    torch.testing.assert_close(trained, norm.eval()(x))
    trained.sum().backward()
    assert x.grad is not None
    assert x.grad.abs().min() > 0


def test_pooled_norm_of_more_values_is_batch_norm() -> None:
    ours, torchs = PooledBatchNorm2d(3), nn.BatchNorm2d(3)
    x = torch.randn(2, 3, 1, 1)
    torch.testing.assert_close(ours(x), torchs(x))
    torch.testing.assert_close(ours.running_var, torchs.running_var)


def zeros_counted(stride: int = 1, dilation: int = 1) -> SameAveragePool:
    pool = SameAveragePool(padding="symmetric", count_zeros=True)
    pool.set_stride_and_dilation(stride, dilation)
    return pool


@pytest.mark.parametrize("size", [(1, 1), (6, 9), (2, 13)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_average_pooling_is_a_depthwise_convolution_of_equal_weights(
    size: tuple[int, int], stride: int, dilation: int
) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    kernel = torch.full((3, 1, 3, 3), 1 / 9, dtype=torch.float64)
    expected = F.conv2d(x, kernel, stride=stride, padding=dilation, dilation=dilation, groups=3)
    torch.testing.assert_close(zeros_counted(stride=stride, dilation=dilation)(x), expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_average_pooling_without_dilation_equals_torchs(stride: int) -> None:
    x = torch.randn(1, 2, 7, 8)
    assert torch.equal(zeros_counted(stride=stride)(x), nn.AvgPool2d(3, stride, padding=1)(x))


@pytest.mark.parametrize("dilation", [2, 4])
def test_dilated_average_pooling_pools_each_interleaved_map_alone(dilation: int) -> None:
    x = torch.randn(1, 2, 17, 21, dtype=torch.float64)
    dense = zeros_counted(dilation=dilation)(x)
    for row in range(dilation):
        for column in range(dilation):
            alone = zeros_counted()(x[..., row::dilation, column::dilation])
            torch.testing.assert_close(dense[..., row::dilation, column::dilation], alone)


def test_dilated_average_pooling_exports_with_dynamic_sides() -> None:
    pool = zeros_counted(dilation=2)
    side = torch.export.Dim("side", min=4, max=64)
    program = torch.export.export(pool, (torch.randn(1, 2, 9, 11),), dynamic_shapes=({2: side},))
    x = torch.randn(1, 2, 14, 11)
    torch.testing.assert_close(program.module()(x), pool(x))


@pytest.mark.parametrize("size", [(8, 10), (9, 7)])
def test_pools_equal_torchs_with_tensorflows_padding(size: tuple[int, int]) -> None:
    """On an even side, TensorFlow's first window begins at the edge, and the last one exceeds the map."""
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    average, largest = SameAveragePool(), SameMaxPool()
    average.set_stride_and_dilation(2, 1)
    largest.set_stride_and_dilation(2, 1)
    pad = [size[0] % 2, size[1] % 2]
    wanted = F.avg_pool2d(x, 3, 2, pad, ceil_mode=True, count_include_pad=False)
    torch.testing.assert_close(average(x), wanted)
    torch.testing.assert_close(largest(x), F.max_pool2d(x, 3, 2, pad, ceil_mode=True))


@pytest.mark.parametrize("kind", [SameAveragePool, SameMaxPool])
def test_a_dilated_pool_equals_the_plain_one_on_each_grid(kind: type[nn.Module]) -> None:
    x, pool = torch.randn(2, 3, 9, 12, dtype=torch.float64), kind()
    plain = {(r, c): pool(x[..., r::3, c::3]) for r in range(3) for c in range(3)}
    pool.set_stride_and_dilation(1, 3)  # type: ignore[operator]
    dilated = pool(x)
    for (row, column), wanted in plain.items():
        torch.testing.assert_close(dilated[..., row::3, column::3], wanted)


def test_average_pooling_leaves_out_samples_outside_the_map() -> None:
    pool = SameAveragePool()
    for rate in ((1, 1), (2, 1), (1, 2), (1, 4)):
        pool.set_stride_and_dilation(*rate)
        assert torch.equal(pool(torch.ones(1, 1, 6, 7)), torch.ones(1, 1, -(-6 // rate[0]), -(-7 // rate[0])))


@pytest.mark.parametrize("size", [(8, 10), (9, 7)])
def test_symmetric_pools_equal_torchs(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    pool = SameMaxPool(padding="symmetric")
    for stride in (1, 2):
        pool.set_stride_and_dilation(stride, 1)
        assert torch.equal(pool(x), F.max_pool2d(x, 3, stride, padding=1))
