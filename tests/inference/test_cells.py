from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segmnv2.inference.cells import Cells
from segmnv2.inference.sampling import Axis, sample_bilinear, sample_points


def axis(generator: torch.Generator, cells: int, pixels: int, *, backwards: bool) -> Axis:
    """Positions that rise, or fall as a mirrored pass has them, some of them on a point of the grid."""
    positions = torch.rand(pixels, generator=generator, dtype=torch.float64) * (cells - 1)
    positions[::3] = positions[::3].round()
    return Axis.at(positions.sort(descending=backwards).values, cells)


@given(
    seed=st.integers(0, 2**31),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    classes=st.integers(1, 5),
    largest=st.sampled_from([1, 3, 1000]),
    backwards=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_labels_are_the_argmax_of_all_logits(
    seed: int, height: int, width: int, classes: int, largest: int, backwards: bool
) -> None:
    """Small whole numbers tie often, and their mixtures by eighths are exact."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.randint(0, largest + 1, (height, width, classes), generator=generator).float()
    rows = axis(generator, height, 23, backwards=False)
    columns = axis(generator, width, 31, backwards=backwards)
    for each in (rows, columns):
        each.weight.mul_(8).round_().div_(8)
    expected = sample_bilinear(grid, rows, columns).argmax(-1)
    assert torch.equal(Cells(grid).labels(rows, columns).long(), expected)


def test_points_are_read_to_the_bit_as_crossings_are() -> None:
    generator = torch.Generator().manual_seed(0)
    grid = torch.randn(7, 9, 4, generator=generator)
    rows, columns = axis(generator, 7, 11, backwards=False), axis(generator, 9, 13, backwards=True)
    row, column = torch.meshgrid(torch.arange(11), torch.arange(13), indexing="ij")
    points = sample_points(grid, rows[row.flatten()], columns[column.flatten()])
    assert torch.equal(points, sample_bilinear(grid, rows, columns).reshape(-1, 4))


def test_only_pixels_between_corners_that_disagree_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counting(grid: torch.Tensor, rows: Axis, columns: Axis) -> torch.Tensor:
        asked.append(len(rows))
        return sample_points(grid, rows, columns)

    monkeypatch.setattr("segmnv2.inference.cells.sample_points", counting)
    grid = torch.zeros(5, 5, 2)
    grid[:, 3:, 1] = 1  # a border between the third column of points and the fourth
    pixels = Axis.at(torch.arange(33, dtype=torch.float64) / 8, 5)
    labels = Cells(grid).labels(pixels, pixels)
    assert asked == [33 * 8]
    assert labels[:, :17].max() == 0  # as good as the other up to the third column, and then worse
    assert labels[:, 17:].min() == 1
