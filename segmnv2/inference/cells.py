"""The best class at each pixel from the logits at output stride, computed only where there is something to compute.

A cell is the square between four neighboring points of the grid. Bilinear mixing keeps order: a class that is at
least as good as another at all four corners is so in between, the weights being the same for both. So

- where the corners have the same best class, all pixels of the cell have it, which holds for most cells of an image;
- elsewhere only the classes that no corner's best one beats at all four corners are candidates, most often two.

The rows and columns of pixels that lie in one cell are neighbors, so pixels are computed cell by cell, in blocks.

``F.interpolate`` knows one mapping, a whole grid onto a whole image. Here each axis has a list of positions, so that
a band of rows, a crop, or a mirrored and rescaled grid are all read the same way, and a row comes out the same whatever
band it is read in. Classes lie innermost in memory, which makes this, with the argmax after it, as fast as
``F.interpolate`` on channels-last logits and four times as fast as on contiguous ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """Positions along one axis of a grid: each lies between two neighboring cells."""

    lower: Int64[Tensor, " n"]  # index of the cell before
    upper: Int64[Tensor, " n"]  # index of the cell after; that of the cell before, at the end of the grid
    weight: Float[Tensor, " n"]  # share of the cell after, 0..1

    @classmethod
    def at(cls, positions: Float64[Tensor, " n"], cells: int, device: torch.device | str = "cpu") -> Axis:
        """Return the axis through ``positions``, in cells, of a grid that has ``cells`` of them.

        Positions before the first cell or after the last one read that cell.
        """
        positions = positions.clamp(0, cells - 1)
        lower = positions.floor().long()
        weight = (positions - lower).float()
        return cls(lower.to(device), (lower + 1).clamp(max=cells - 1).to(device), weight.to(device))

    def __getitem__(self, part: slice | Int64[Tensor, " m"]) -> Axis:
        return Axis(self.lower[part], self.upper[part], self.weight[part])

    def __len__(self) -> int:
        return len(self.lower)


def sample_bilinear(grid: Float[Tensor, "h w k"], rows: Axis, columns: Axis) -> Float[Tensor, "i j k"]:
    """Read ``grid`` at every crossing of ``rows`` and ``columns``.

    Rows first: they leave the small side small until the end.
    """
    weight = rows.weight[:, None, None]
    lines = torch.lerp(grid.index_select(0, rows.lower), grid.index_select(0, rows.upper), weight)
    weight = columns.weight[:, None]
    return torch.lerp(lines.index_select(1, columns.lower), lines.index_select(1, columns.upper), weight)


BLOCK_ELEMENTS = 2**20
"""Pixels computed at a time, which bounds the memory for large images (4 MB for each number held)."""


class Cells:
    """A grid of logits, with the best class at each of its points and the cells whose corners agree."""

    def __init__(self, grid: Float[Tensor, "h w k"]) -> None:
        """Compare the corners of every cell; of at most 256 equally good classes the lowest id counts."""
        self.grid = grid
        self.best: UInt8[Tensor, "h w"] = grid.argmax(-1).to(torch.uint8)
        below, right = _next(self.best, 0), _next(self.best, 1)
        self.agree: Bool[Tensor, "h w"] = (self.best == below) & (self.best == right) & (self.best == _next(below, 1))

    def labels(self, rows: Axis, columns: Axis) -> UInt8[Tensor, "i j"]:
        """Return the best class at every crossing of ``rows`` and ``columns``, whose positions rise or fall.

        The same as the argmax of :func:`segmnv2.inference.cells.sample_bilinear`, but for the rounding of classes
        that are equally good.
        """
        height, width = self.best.shape
        down, across = Runs.of(rows, height), Runs.of(columns, width)
        blocks = self.best[:, None, :, None].expand(-1, down.longest, -1, across.longest).contiguous()
        wanted = ~self.agree & (down.counts > 0)[:, None] & (across.counts > 0)
        cells = wanted.nonzero()
        at_once = max(1, BLOCK_ELEMENTS // (down.longest * across.longest))
        for start in range(0, len(cells), at_once):
            row, column = cells[start : start + at_once].unbind(1)
            corners = self._corners(row, column)
            blocks[row, :, column, :] = _best_inside(corners, down.weights[row], across.weights[column])
        found = blocks.view(height * down.longest, width * across.longest)
        return across.pick(down.pick(found, 0), 1).contiguous()

    def _corners(self, row: Int64[Tensor, " n"], column: Int64[Tensor, " n"]) -> Float[Tensor, "n 4 k"]:
        """Return the logits at the upper left, lower left, upper right and lower right corners of cells."""
        height, width, classes = self.grid.shape
        below, right = (row + 1).clamp(max=height - 1), (column + 1).clamp(max=width - 1)
        places = torch.stack([row * width + column, below * width + column, row * width + right, below * width + right])
        return self.grid.reshape(-1, classes)[places.T]


@dataclass(frozen=True)
class Runs:
    """The positions of an axis by the cell that they lie in; all runs are stretched to the longest."""

    counts: Int64[Tensor, " cells"]  # positions in each cell
    weights: Float[Tensor, "cells longest"]  # of each position, as in :class:`Axis`
    places: Int64[Tensor, " n"]  # of each position among the stretched runs, one after another

    @classmethod
    def of(cls, axis: Axis, cells: int) -> Runs:
        """Return the runs of an axis whose positions, one or more, rise or fall along ``cells`` points of the grid."""
        counts = torch.bincount(axis.lower, minlength=cells)
        longest = int(counts.max())
        index = torch.arange(len(axis), device=axis.lower.device)
        first = torch.full_like(counts, len(axis)).scatter_reduce_(0, axis.lower, index, "amin")
        places = axis.lower * longest + index - first[axis.lower]
        weights = axis.weight.new_zeros(cells * longest)
        weights[places] = axis.weight
        return cls(counts, weights.view(cells, longest), places)

    @property
    def longest(self) -> int:
        """Positions of the longest run."""
        return self.weights.shape[1]

    def pick(self, values: Tensor, dim: int) -> Tensor:
        """Return each position's value from those of the stretched runs."""
        places = self.places
        if int(places[-1]) - int(places[0]) == len(places) - 1:  # rising, with no gaps: nothing was stretched
            return values.narrow(dim, int(places[0]), len(places))
        return values.index_select(dim, places)


def _best_inside(
    corners: Float[Tensor, "n 4 k"], rows: Float[Tensor, "n i"], columns: Float[Tensor, "n j"]
) -> UInt8[Tensor, "n i j"]:
    """Return the best class at each pixel of each cell.

    Args:
        corners: logits at the upper left, lower left, upper right and lower right corners.
        rows: weights of the pixels' rows between upper and lower corners.
        columns: weights of the pixels' columns between left and right corners.
    """
    candidates = _candidates(corners)
    counts = candidates.sum(1)
    order = counts.argsort(descending=True)
    classes = candidates[order].to(torch.uint8).argsort(dim=1, descending=True, stable=True)  # candidates first, by id
    corners, rows, columns = corners[order], rows[order][:, :, None], columns[order][:, None, :]
    best = torch.empty(len(corners), rows.shape[1], columns.shape[2], device=corners.device)
    ids = torch.empty_like(best, dtype=torch.uint8)
    for rank in range(int(counts.max())):
        n = int((counts > rank).sum())  # those with fewer candidates come last
        chosen = classes[:n, rank]
        ends = corners[:n].gather(2, chosen[:, None, None].expand(-1, 4, 1))
        left, right = (torch.lerp(ends[:, [side]], ends[:, [side + 1]], rows[:n]) for side in (0, 2))
        values = torch.lerp(left, right, columns[:n])
        names = chosen.to(torch.uint8)[:, None, None]
        if rank == 0:
            best.copy_(values)
            ids.copy_(names.expand_as(ids))
        else:
            better = values > best[:n]
            ids[:n] = torch.where(better, names, ids[:n])
            torch.maximum(best[:n], values, out=best[:n])
    found = torch.empty_like(ids)
    found[order] = ids
    return found


def _candidates(corners: Float[Tensor, "n 4 k"]) -> Bool[Tensor, "n k"]:
    """Return which classes can be the best somewhere in each cell.

    A class cannot if the best one of some corner is better at all corners, or as good and has the lower id.
    """
    number = torch.arange(corners.shape[2], device=corners.device)
    beaten = torch.zeros_like(corners[:, 0], dtype=torch.bool)
    for winner in corners.argmax(2).unbind(1):
        lead = (corners.gather(2, winner[:, None, None].expand(-1, 4, 1)) - corners).amin(1)
        beaten |= (lead > 0) | ((lead == 0) & (number > winner[:, None]))
    return ~beaten


def _next(values: Tensor, dim: int) -> Tensor:
    """Return each point's neighbor along an axis; the last one is its own."""
    last = values.shape[dim] - 1
    return torch.cat([values.narrow(dim, 1, last), values.narrow(dim, last, 1)], dim)
