"""The best class at each pixel from the logits at output stride, computed only where a cell's corners disagree.

Between four corners that have the same best class, bilinear mixing has it too: at each corner it is at least as good
as every other class, and the weights are the same for all. Most cells of a picture are such, so most pixels need no
logits.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from segmnv2.inference.sampling import Axis, sample_points


class Cells:
    """A grid of logits, with the best class at each of its points and the cells whose corners agree."""

    def __init__(self, grid: Float[Tensor, "h w k"]) -> None:
        """Compare the corners of every cell.

        Args:
            grid: logits of at most 256 classes; of equally good ones the lowest id counts.
        """
        self.grid = grid
        self.best: UInt8[Tensor, "h w"] = grid.argmax(-1).to(torch.uint8)
        below, right = _next(self.best, 0), _next(self.best, 1)
        self.agree: Bool[Tensor, "h w"] = (self.best == below) & (self.best == right) & (self.best == _next(below, 1))

    def labels(self, rows: Axis, columns: Axis) -> UInt8[Tensor, "i j"]:
        """Return the best class at every crossing of ``rows`` and ``columns``.

        The same as the argmax of :func:`segmnv2.inference.sampling.sample_bilinear`, but for the rounding of two
        classes that are equally good at all corners.
        """
        found = self.best.index_select(0, rows.lower).index_select(1, columns.lower)
        agree = self.agree.index_select(0, rows.lower).index_select(1, columns.lower)
        row, column = (~agree).nonzero(as_tuple=True)
        found[row, column] = sample_points(self.grid, rows[row], columns[column]).argmax(-1).to(torch.uint8)
        return found


def _next(values: Tensor, dim: int) -> Tensor:
    """Return each point's neighbour along an axis; the last one is its own."""
    last = values.shape[dim] - 1
    return torch.cat([values.narrow(dim, 1, last), values.narrow(dim, last, 1)], dim)
