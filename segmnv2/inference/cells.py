"""Best class of each pixel from logits at output stride, interpolated only where neighboring points differ.

A cell is the square between four neighboring points of the grid. Bilinear interpolation uses the same weights for all
classes. So a class that is at least as good as another at all four corners is also at least as good inside:

- If the corners have the same best class, all pixels of the cell have it. Most cells of an image are of this kind.
- Otherwise, a class is a candidate unless a corner's best class beats it at all four corners. Most often two are left.

The pixels of a cell are neighbors in rows and columns, so pixels are computed cell by cell, in blocks.

``F.interpolate`` only maps a whole grid to a whole image. Here, each axis has a list of positions. So a band of rows, a
crop, and a mirrored or rescaled grid are read in the same way. A row has the same values in any band. Classes are the
last dimension in memory. So interpolation and argmax together are as fast as ``F.interpolate`` on channels-last
logits, and four times as fast as on contiguous ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """Positions along one axis of a grid, each between two neighboring points."""

    lower: Int64[Tensor, " n"]  # index of the point before
    upper: Int64[Tensor, " n"]  # index of the point after; at the end of the grid, of the point before
    weight: Float[Tensor, " n"]  # share of the point after, 0..1

    @classmethod
    def at(cls, positions: Float64[Tensor, " n"], points: int, device: torch.device | str = "cpu") -> Axis:
        """Return the axis of ``positions`` on a grid of ``points``; positions outside of it read the nearest point."""
        positions = positions.clamp(0, points - 1)
        lower = positions.floor().long()
        weight = (positions - lower).float()
        return cls(lower.to(device), (lower + 1).clamp(max=points - 1).to(device), weight.to(device))

    def __getitem__(self, part: slice | Int64[Tensor, " m"]) -> Axis:
        return Axis(self.lower[part], self.upper[part], self.weight[part])

    def __len__(self) -> int:
        return len(self.lower)


def sample_bilinear(grid: Float[Tensor, "h w k"], rows: Axis, columns: Axis) -> Float[Tensor, "i j k"]:
    """Interpolate ``grid`` at every crossing of ``rows`` and ``columns``."""
    # Rows first, so that the intermediate result has only as many columns as the grid.
    weight = rows.weight[:, None, None]
    lines = torch.lerp(grid.index_select(0, rows.lower), grid.index_select(0, rows.upper), weight)
    weight = columns.weight[:, None]
    return torch.lerp(lines.index_select(1, columns.lower), lines.index_select(1, columns.upper), weight)


BLOCK_ELEMENTS = 2**20
"""Pixels computed at a time, which limits the memory for large images (4 MB per float32 value of a pixel)."""


class Cells:
    """A grid of logits, with the best class at each of its points and the cells whose corners agree."""

    def __init__(self, grid: Float[Tensor, "h w k"]) -> None:
        """Compare the corners of every cell, with at most 256 classes; of equally good ones the lowest id counts."""
        self.grid = grid
        self.best: UInt8[Tensor, "h w"] = grid.argmax(-1).to(torch.uint8)
        below, right = _neighbors(self.best, 0), _neighbors(self.best, 1)
        self.agree: Bool[Tensor, "h w"] = (
            (self.best == below) & (self.best == right) & (self.best == _neighbors(below, 1))
        )

    def labels(self, rows: Axis, columns: Axis) -> UInt8[Tensor, "i j"]:
        """Return the best class at every crossing of ``rows`` and ``columns``, each in ascending or descending order.

        This is the argmax of :func:`segmnv2.inference.cells.sample_bilinear`, except where rounding decides between
        equally good classes.
        """
        height, width = self.best.shape
        down, across = Runs.of(rows, height), Runs.of(columns, width)
        blocks = self.best[:, None, :, None].expand(-1, down.longest, -1, across.longest).contiguous()
        cells = (~self.agree & (down.counts > 0)[:, None] & (across.counts > 0)).nonzero()
        at_once = max(1, BLOCK_ELEMENTS // (down.longest * across.longest))
        for start in range(0, len(cells), at_once):
            row, column = cells[start : start + at_once].unbind(1)
            corners = self._corners(row, column)
            blocks[row, :, column, :] = _best_inside(corners, down.weights[row], across.weights[column])
        padded = blocks.view(height * down.longest, width * across.longest)
        return across.pick(down.pick(padded, 0), 1).contiguous()

    def _corners(self, row: Int64[Tensor, " n"], column: Int64[Tensor, " n"]) -> Float[Tensor, "n 4 k"]:
        """Return the logits at the upper left, lower left, upper right and lower right corners of cells."""
        height, width, classes = self.grid.shape
        below, right = (row + 1).clamp(max=height - 1), (column + 1).clamp(max=width - 1)
        places = torch.stack([row * width + column, below * width + column, row * width + right, below * width + right])
        return self.grid.reshape(-1, classes)[places.T]


@dataclass(frozen=True)
class Runs:
    """Runs of positions of an axis, one run per cell; all runs are padded to the length of the longest."""

    counts: Int64[Tensor, " cells"]  # positions in each cell
    weights: Float[Tensor, "cells longest"]  # weight of each position, see :class:`Axis`
    places: Int64[Tensor, " n"]  # index of each position in the concatenated padded runs

    @classmethod
    def of(cls, axis: Axis, cells: int) -> Runs:
        """Return the runs of an axis, in ascending or descending order, along a grid of ``cells`` points."""
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
        """Length of the longest run."""
        return self.weights.shape[1]

    def pick(self, values: Tensor, dim: int) -> Tensor:
        """Return each position's value from the values of the padded runs."""
        places = self.places
        if int(places[-1]) - int(places[0]) == len(places) - 1:  # ascending without gaps: nothing was padded
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
        chosen_ids = chosen.to(torch.uint8)[:, None, None]
        if rank == 0:
            best.copy_(values)
            ids.copy_(chosen_ids.expand_as(ids))
        else:
            better = values > best[:n]
            ids[:n] = torch.where(better, chosen_ids, ids[:n])
            torch.maximum(best[:n], values, out=best[:n])
    result = torch.empty_like(ids)
    result[order] = ids
    return result


def _candidates(corners: Float[Tensor, "n 4 k"]) -> Bool[Tensor, "n k"]:
    """Return the classes that can be the best somewhere in each cell.

    A class cannot be the best if that of a corner is better at all corners, or at least as good with a lower id.
    """
    number = torch.arange(corners.shape[2], device=corners.device)
    beaten = torch.zeros_like(corners[:, 0], dtype=torch.bool)
    for winner in corners.argmax(2).unbind(1):
        lead = (corners.gather(2, winner[:, None, None].expand(-1, 4, 1)) - corners).amin(1)
        beaten |= (lead > 0) | ((lead == 0) & (number > winner[:, None]))
    return ~beaten


def _neighbors(values: Tensor, dim: int) -> Tensor:
    """Return the values of each point's next neighbor along an axis; the last point is its own neighbor."""
    last = values.shape[dim] - 1
    return torch.cat([values.narrow(dim, 1, last), values.narrow(dim, last, 1)], dim)
