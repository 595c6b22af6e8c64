"""From logits at output stride to the best class at each pixel, in operations that every runtime has.

Both endings give the argmax of the logits enlarged with aligned corners and cropped to the image, without a resizing
operation, whose rules differ among runtimes. Weights of the interpolation are multiples of 1 / output_stride, exact in
float32.

- :class:`DenseLabels` does the same work for each picture: two matrix products and an argmax over the innermost axis.
- :class:`CellLabels` looks at the cells between four neighbouring logits, and computes only those whose corners
  disagree, as :mod:`segmnv2.inference.cells` does. Its runtime must let the sizes of tensors depend on values.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn


class RawLogits(nn.Module):
    """Logits as they are."""

    def forward(self, logits: Float[Tensor, "1 k i j"], image: UInt8[Tensor, "1 h w 3"]) -> Float[Tensor, "1 k i j"]:
        """Return the logits; the image is not looked at."""
        return logits


class DenseLabels(nn.Module):
    """The argmax of all pixels' logits.

    Attributes:
        output_stride: pixels between two logits.
    """

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.output_stride = output_stride

    def forward(self, logits: Float[Tensor, "1 k i j"], image: UInt8[Tensor, "1 h w 3"]) -> UInt8[Tensor, "1 h w"]:
        """Return the best class at each pixel of the image, of which only the size is looked at."""
        height, width = image.shape[1:3]
        classes, rows, columns = logits.shape[1:]
        grid = logits[0].permute(1, 2, 0)
        down = interpolation_matrix(height, rows, self.output_stride)
        lines = (down @ grid.reshape(rows, columns * classes)).reshape(height, columns, classes)
        full = interpolation_matrix(width, columns, self.output_stride) @ lines
        return full.argmax(-1).to(torch.uint8)[None]


class CellLabels(nn.Module):
    """The argmax of pixels' logits, computed only in cells whose corners disagree.

    Attributes:
        output_stride: pixels between two logits.
        weights: (stride * stride, 4) shares of the corners at each pixel of a cell.
    """

    weights: Tensor

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.output_stride = output_stride
        share = torch.arange(output_stride) / output_stride
        side = torch.stack([1 - share, share], dim=1)
        weights = side[:, None, :, None] * side[None, :, None, :]
        self.register_buffer("weights", weights.reshape(-1, 4))

    def forward(self, logits: Float[Tensor, "1 k i j"], image: UInt8[Tensor, "1 h w 3"]) -> UInt8[Tensor, "1 h w"]:
        """Return the best class at each pixel of the image, of which only the size is looked at."""
        height, width = image.shape[1:3]
        stride = self.output_stride
        classes, rows, columns = logits.shape[1:]
        grid = F.pad(logits, (0, 1, 0, 1), mode="replicate")[0].permute(1, 2, 0)
        corners = torch.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]], dim=2)
        corners = corners.reshape(rows * columns, 4, classes)
        best = corners.argmax(-1).to(torch.uint8)
        mixed = (best[:, :1] != best[:, 1:]).any(1).nonzero()[:, 0]
        inside = (self.weights @ corners[mixed]).argmax(-1).to(torch.uint8)
        cells = best[:, :1].repeat(1, stride * stride)
        cells[mixed] = inside
        pixels = cells.reshape(rows, columns, stride, stride).permute(0, 2, 1, 3)
        return pixels.reshape(rows * stride, columns * stride)[None, :height, :width]


def interpolation_matrix(side: int, cells: int, stride: int) -> Float[Tensor, "side cells"]:
    """Return the share that each of ``cells`` values, ``stride`` pixels apart, has in each of ``side`` pixels.

    Args:
        side: of the image.
        cells: values along it, the first of which lies on the first pixel.
        stride: pixels between two of them.
    """
    pixels = torch.arange(side, dtype=torch.float32) / stride
    return (1 - (pixels[:, None] - torch.arange(cells, dtype=torch.float32)).abs()).clamp(min=0)
