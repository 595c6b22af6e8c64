"""From logits to the best class at each pixel, in operations that every runtime has.

The argmax is that of the logits enlarged with aligned corners and cropped to the image, without a resizing operation,
whose rules differ among runtimes. Weights of the interpolation are multiples of 1 / stride, exact in float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from segmnv2.models.segmenter import Segmenter


class RawLogits(nn.Module):
    """Logits unchanged."""

    def forward(self, logits: Float[Tensor, "1 k i j"], image: UInt8[Tensor, "1 h w 3"]) -> Float[Tensor, "1 k i j"]:
        """Return the logits; the image is not looked at."""
        return logits


class CellLabels(nn.Module):
    """The argmax of pixels' logits, computed only in cells of the grid whose corners disagree.

    :mod:`segmnv2.inference.cells` does the same. The runtime must let the sizes of tensors depend on values.

    Attributes:
        stride: pixels between two logits.
        weights: (4, stride * stride) shares of the corners at each pixel of a cell.
    """

    weights: Tensor

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        share = torch.arange(stride) / stride
        side = torch.stack([1 - share, share], dim=1)
        weights = side[:, None, :, None] * side[None, :, None, :]
        self.register_buffer("weights", weights.reshape(-1, 4).T.contiguous())

    def forward(self, logits: Float[Tensor, "1 k i j"], image: UInt8[Tensor, "1 h w 3"]) -> UInt8[Tensor, "1 h w"]:
        """Return the best class at each pixel of the image, of which only the size is looked at."""
        height, width = image.shape[1:3]
        stride = self.stride
        classes, rows, columns = logits.shape[1:]
        # The last row and column have no cell after them: they are repeated, so that they need no other rule.
        grid = F.pad(logits, (0, 1, 0, 1), mode="replicate")[0].permute(1, 2, 0).reshape(-1, classes)
        best = grid.argmax(-1).to(torch.uint8).reshape(rows + 1, columns + 1)
        first = best[:-1, :-1]
        mixed = (first != best[:-1, 1:]) | (first != best[1:, :-1]) | (first != best[1:, 1:])
        index = mixed.reshape(-1).nonzero()[:, 0]
        corner = index + index // columns  # on the grid, whose rows are longer by one
        corners = torch.stack([grid[corner + step] for step in (0, 1, columns + 1, columns + 2)], dim=2)
        cells = first.reshape(-1, 1).expand(-1, stride * stride).clone()
        cells[index] = best_class(corners @ self.weights)
        pixels = cells.reshape(rows, columns, stride, stride).permute(0, 2, 1, 3)
        return pixels.reshape(rows * stride, columns * stride)[None, :height, :width]


def best_class(logits: Float[Tensor, "n k p"]) -> UInt8[Tensor, "n p"]:
    """Return the argmax over the classes in the middle; of equally good ones the lowest.

    A maximum and a minimum over an axis that is not the innermost one are fast everywhere. Over that axis PyTorch's
    argmax is seven times as slow, as is OpenVINO's over the innermost one.
    """
    classes = torch.arange(logits.shape[1], dtype=torch.float32)[:, None]
    found = torch.where(logits == logits.amax(1, keepdim=True), classes, float(logits.shape[1]))
    return found.amin(1).to(torch.uint8)


def grid_cells(side: int, model: Segmenter) -> int:
    """Return the number of logits along a side of ``side`` pixels, which the model pads to k * output_stride + 1."""
    return -(-(side - 1) // model.output_stride) * model.output_stride // model.logits_stride + 1


def interpolation_matrix(side: int, cells: int, stride: int) -> Float[Tensor, "side cells"]:
    """Return the share that each of ``cells`` values, ``stride`` pixels apart, has in each of ``side`` pixels.

    Args:
        side: of the image.
        cells: values along it, the first of which lies on the first pixel.
        stride: pixels between two of them.
    """
    pixels = torch.arange(side, dtype=torch.float32) / stride
    return (1 - (pixels[:, None] - torch.arange(cells, dtype=torch.float32)).abs()).clamp(min=0)
