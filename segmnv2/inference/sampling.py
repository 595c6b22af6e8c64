"""Bilinear reading of a grid at any positions, one axis after the other.

``F.interpolate`` knows one mapping, a whole grid onto a whole image. Here each axis has a list of positions, so that
a band of rows, a crop, or a mirrored and rescaled grid are all read the same way, and a row comes out the same whatever
band it is read in. Classes lie innermost in memory, which makes this, with the argmax after it, as fast as
``F.interpolate`` on channels-last logits and four times as fast as on contiguous ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """Positions along one axis of a grid: each lies between two neighboring cells.

    Attributes:
        lower: index of the cell before.
        upper: index of the cell after; that of the cell before, at the end of the grid.
        weight: share of the cell after, 0..1.
    """

    lower: Int64[Tensor, " n"]
    upper: Int64[Tensor, " n"]
    weight: Float[Tensor, " n"]

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
