"""The label map in additions and comparisons of whole planes, one for each class.

Phones' kernels for argmax look at one number after the other on one core; those for sums, differences and maxima are
vectorised and take all cores.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from segmnv2.export.endings import interpolation_matrix

GAIN = 2.0**60
"""Factor of the logits, exact in float32, that makes every difference between two of them larger than any class id."""


class PlaneLabels(nn.Module):
    """The argmax of all pixels' logits, for one size of image, without an operation that gives out indices.

    Class after class is compared with the best one before it. A class that beats it raises the label to its own id,
    which is larger than all before; so of equally good classes the one with the lowest id counts.

    Attributes:
        rows: interpolates down the columns of the grid, and multiplies by :data:`GAIN`.
        columns: interpolates along its rows.
    """

    def __init__(self, size: tuple[int, int], stride: int) -> None:
        """Compute the shares of the logits in each pixel.

        Args:
            size: (height, width) of the image.
            stride: pixels between two logits.
        """
        super().__init__()
        self.rows, self.columns = (_interpolation(side, stride) for side in size)
        self.rows.weight.mul_(GAIN)

    def forward(self, logits: Float[Tensor, "1 k i j"], image: UInt8[Tensor, "1 h w 3"]) -> UInt8[Tensor, "1 h w"]:
        """Return the best class at each pixel; the image is not looked at."""
        # The network's padding may give more logits than the image's pixels lie between.
        planes = logits.flatten(0, 1)[:, : self.rows.in_features, : self.columns.in_features]
        planes = self.columns(self.rows(planes.permute(0, 2, 1)).permute(0, 2, 1))
        best, label = planes[:1], None
        for index in range(1, logits.shape[1]):
            plane = planes[index : index + 1]
            won = (plane - best).clamp(0.0, float(index))
            label = won if label is None else torch.maximum(label, won)
            best = torch.maximum(best, plane)
        return (torch.zeros_like(best) if label is None else label).to(torch.uint8)


def _interpolation(side: int, stride: int) -> nn.Linear:
    """Return the interpolation of one axis with ``side`` pixels."""
    cells = -(-(side - 1) // stride) + 1
    layer = nn.Linear(cells, side, bias=False).requires_grad_(False)
    layer.weight.copy_(interpolation_matrix(side, cells, stride))
    return layer
