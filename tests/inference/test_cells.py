from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segmnv2.inference import cells
from segmnv2.inference.cells import Axis, Cells, sample_bilinear


def axis(generator: torch.Generator, cells: int, pixels: int, *, backwards: bool) -> Axis:
    """Return ascending positions, or descending ones as in a mirrored pass, some on points of the grid."""
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
@settings(max_examples=50, deadline=None)
def test_labels_are_the_argmax_of_all_logits(
    seed: int, height: int, width: int, classes: int, largest: int, backwards: bool
) -> None:
    """Small integers are often equal, and their interpolation by eighths is exact."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.randint(0, largest + 1, (height, width, classes), generator=generator).float()
    rows = axis(generator, height, 23, backwards=False)
    columns = axis(generator, width, 31, backwards=backwards)
    for each in (rows, columns):
        each.weight.mul_(8).round_().div_(8)
    expected = sample_bilinear(grid, rows, columns).argmax(-1)
    assert torch.equal(Cells(grid).labels(rows, columns).long(), expected)


def test_only_cells_whose_corners_disagree_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    compute = cells._best_inside

    def counting(corners: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        found = compute(corners, rows, columns)
        asked.append(found.numel())
        return found

    monkeypatch.setattr(cells, "_best_inside", counting)
    grid = torch.zeros(5, 5, 2)
    grid[:, 3:, 1] = 1  # a border between the third column of points and the fourth
    pixels = Axis.at(torch.arange(33, dtype=torch.float64) / 8, 5)
    labels = Cells(grid).labels(pixels, pixels)
    assert asked == [5 * 8 * 8]  # one column of cells
    assert labels[:, :17].max() == 0  # equal up to the third column, then worse
    assert labels[:, 17:].min() == 1


def test_only_classes_that_no_corners_best_one_beats_are_candidates() -> None:
    corners = torch.tensor([[[9.0, 0.0, 5.0, -1.0]] * 2 + [[0.0, 9.0, 5.0, -1.0]] * 2])  # in the middle 4.5, 4.5, 5, -1
    assert cells._candidates(corners).tolist() == [[True, True, True, False]]
    labels = Cells(corners.view(2, 2, 4)).labels(*[Axis.at(torch.tensor([0.0, 0.5, 1.0]).double(), 2)] * 2)
    assert labels.tolist() == [[0] * 3, [2] * 3, [1] * 3]


def test_large_images_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = torch.randn(6, 7, 5, generator=torch.Generator().manual_seed(0))
    rows, columns = (Axis.at(torch.linspace(0, side - 1, 100).double(), side) for side in (6, 7))
    whole = Cells(grid).labels(rows, columns)
    monkeypatch.setattr(cells, "BLOCK_ELEMENTS", 1)
    assert torch.equal(Cells(grid).labels(rows, columns), whole)
