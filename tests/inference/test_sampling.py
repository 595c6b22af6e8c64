from __future__ import annotations

import pytest
import torch

from segmnv2.inference.cells import Axis, sample_bilinear
from segmnv2.nn.stride import resize_bilinear


def axis(*positions: float, cells: int) -> Axis:
    return Axis.at(torch.tensor(positions, dtype=torch.float64), cells)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_sampling_equals_the_aligned_bilinear_resize_in_exact_numbers(stride):
    grid = torch.randint(-50, 50, (5, 4, 3), generator=torch.Generator().manual_seed(stride)).float()
    height, width = 4 * stride + 1, 3 * stride + 1
    rows = Axis.at(torch.arange(height, dtype=torch.float64) / stride, 5)
    columns = Axis.at(torch.arange(width, dtype=torch.float64) / stride, 4)
    resized = resize_bilinear(grid.permute(2, 0, 1)[None], (height, width))
    assert torch.equal(sample_bilinear(grid, rows, columns), resized[0].permute(1, 2, 0))


def test_a_point_has_its_own_value_and_the_mean_is_half_way():
    grid = torch.tensor([[0.0, 10.0], [20.0, 30.0]])[..., None]
    read = sample_bilinear(grid, axis(0, 0.5, 1, cells=2), axis(0, 0.5, 1, cells=2))
    assert torch.equal(read[..., 0], torch.tensor([[0.0, 5.0, 10.0], [10.0, 15.0, 20.0], [20.0, 25.0, 30.0]]))


def test_positions_outside_read_the_nearest_point():
    grid = torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1)
    read = sample_bilinear(grid, axis(-4, 2.5, 9, cells=3), axis(0, cells=1))
    assert read.flatten().tolist() == [1, 3, 3]


def test_a_part_of_an_axis_gives_that_part():
    grid = torch.randn(6, 5, 2, generator=torch.Generator().manual_seed(0))
    rows, columns = axis(*(i / 7 for i in range(36)), cells=6), axis(*(i / 3 for i in range(13)), cells=5)
    assert torch.equal(sample_bilinear(grid, rows[10:20], columns), sample_bilinear(grid, rows, columns)[10:20])
    assert len(rows[10:20]) == 10
