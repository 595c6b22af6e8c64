"""Models with pre- and post-processing inside, from a uint8 image to a label map.

They have three parts, which a format converts together or one by one: :class:`Preparation`, the model
(:class:`segmnv2.engines.pytorch.InferenceNetwork`), and an ending. An ending returns the best class at each pixel. It
interpolates logits with aligned corners, crops them to the image and takes the argmax. It uses only operations that
every runtime has. These do not include resizing, whose rules differ between runtimes. Interpolation weights are
multiples of 1 / stride, which are exact in float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from segmnv2.models.segmenter import Segmenter

EXAMPLE_SIZE = (97, 129)
"""Height and width for tracing a model for any size; unequal sides stay two different axes."""

LEAST_HALVED = 1024
"""Smallest number of values of a constant that is stored in 16 bits; smaller ones save less than the conversion."""


class RawLogits(nn.Module):
    """An ending that returns the logits unchanged."""

    def forward(self, logits: Float[Tensor, "1 k i j"], image: UInt8[Tensor, "1 h w 3"]) -> Float[Tensor, "1 k i j"]:
        """Return the logits."""
        return logits


class CellLabels(nn.Module):
    """The argmax of the logits of all pixels, computed only in cells of the grid whose corners disagree.

    The method is that of :mod:`segmnv2.inference.cells`. The runtime must support tensor sizes that depend on values.

    Attributes:
        stride: pixels between two logits.
        weights: (4, stride * stride) weights of the corners at each pixel of a cell.
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
        """Return the best class at each pixel; only the size of the image is used."""
        height, width = image.shape[1:3]
        stride = self.stride
        classes, rows, columns = logits.shape[1:]
        # The last row and column are repeated, so that each logit is the first corner of a cell.
        grid = F.pad(logits, (0, 1, 0, 1), mode="replicate")[0].permute(1, 2, 0).reshape(-1, classes)
        best = grid.argmax(-1).to(torch.uint8).reshape(rows + 1, columns + 1)
        first = best[:-1, :-1]
        mixed = (first != best[:-1, 1:]) | (first != best[1:, :-1]) | (first != best[1:, 1:])
        index = mixed.reshape(-1).nonzero()[:, 0]
        corner = index + index // columns  # index on the grid, whose rows are longer by one
        corners = torch.stack([grid[corner + step] for step in (0, 1, columns + 1, columns + 2)], dim=2)
        cells = first.reshape(-1, 1).expand(-1, stride * stride).clone()
        cells[index] = best_class(corners @ self.weights)
        pixels = cells.reshape(rows, columns, stride, stride).permute(0, 2, 1, 3)
        return pixels.reshape(rows * stride, columns * stride)[None, :height, :width]


def best_class(logits: Float[Tensor, "n k p"]) -> UInt8[Tensor, "n p"]:
    """Return the argmax over the middle axis, the classes; the lowest of equally good ones.

    A maximum and a minimum over an axis that is not the innermost one are fast in all runtimes. PyTorch's argmax over
    such an axis, and OpenVINO's over the innermost one, take seven times as long.
    """
    classes = torch.arange(logits.shape[1], dtype=torch.float32)[:, None]
    found = torch.where(logits == logits.amax(1, keepdim=True), classes, float(logits.shape[1]))
    return found.amin(1).to(torch.uint8)


def grid_cells(side: int, model: Segmenter) -> int:
    """Return the number of logits along a side of ``side`` pixels, which the model pads to k * output_stride + 1."""
    return -(-(side - 1) // model.output_stride) * model.output_stride // model.logits_stride + 1


def interpolation_matrix(side: int, cells: int, stride: int) -> Float[Tensor, "side cells"]:
    """Return the weight of each of ``cells`` values, ``stride`` pixels apart, at each of ``side`` pixels."""
    pixels = torch.arange(side, dtype=torch.float32) / stride
    return (1 - (pixels[:, None] - torch.arange(cells, dtype=torch.float32)).abs()).clamp(min=0)


GAIN = 2.0**60
"""Factor of the logits, exact in float32; with it, every difference of two logits is larger than any class id."""


class PlaneLabels(nn.Module):
    """The argmax of the logits of all pixels, for one image size, by sums, differences and maxima of whole planes.

    These operations are vectorized and use all cores. On phones, kernels for argmax read one number after another on
    one core.

    Each class is compared with the best of the classes before it. A better class raises the label to its id, which is
    larger than all ids before. So the lowest id of equally good classes is returned.

    Attributes:
        rows: interpolation along the columns of the grid, multiplied by :data:`GAIN`.
        columns: interpolation along the rows of the grid.
    """

    def __init__(self, size: tuple[int, int], stride: int) -> None:
        """Compute the interpolation of logits ``stride`` pixels apart, for an image of (height, width)."""
        super().__init__()
        self.rows, self.columns = (_interpolation(side, stride) for side in size)
        self.rows.weight.mul_(GAIN)

    def forward(self, logits: Float[Tensor, "1 k i j"], image: UInt8[Tensor, "1 h w 3"]) -> UInt8[Tensor, "1 h w"]:
        """Return the best class at each pixel; the image is not used."""
        # Because of padding there may be more logits than the image needs.
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


class Preparation(nn.Module):
    """Conversion of a uint8 image to the model's input: channels first, padded at the right and bottom.

    Attributes:
        mean: (1, 3, 1, 1) mean pixel of the model's normalization, 0..255; it is the color of the padding.
        output_stride: output stride of the model; sides become k * output_stride + 1.
    """

    mean: Tensor

    def __init__(self, mean: Float[Tensor, "1 3 1 1"], output_stride: int) -> None:
        """Store a copy of the mean pixel, RGB 0..255."""
        super().__init__()
        self.register_buffer("mean", mean.detach().clone())
        values = mean.flatten().tolist()
        self.fill = values[0] if len(set(values)) == 1 else None
        self.output_stride = output_stride

    def forward(self, image: UInt8[Tensor, "1 h w 3"]) -> Float[Tensor, "1 3 i j"]:
        """Return RGB pixels, 0..255, for an RGB image, 0..255, with sides of at least 2."""
        pixels = image.permute(0, 3, 1, 2).to(torch.float32)
        bottom, right = (-(side - 1) % self.output_stride for side in image.shape[1:3])
        if isinstance(bottom, int) and isinstance(right, int) and not bottom and not right:
            return pixels  # a fixed size that needs no padding
        if self.fill is not None:
            return F.pad(pixels, (0, right, 0, bottom), value=self.fill)
        return F.pad(pixels - self.mean, (0, right, 0, bottom)) + self.mean


class Deployable(nn.Module):
    """A model from a uint8 image to its label map, or to logits at output stride."""

    def __init__(self, preparation: nn.Module, network: nn.Module, ending: nn.Module) -> None:
        """Join the parts.

        Args:
            preparation: image -> pixels; usually :class:`Preparation`.
            network: pixels -> logits; an InferenceNetwork, or its quantized form.
            ending: (logits, image) -> labels or logits; a class of this module.
        """
        super().__init__()
        self.preparation = preparation
        self.network = network
        self.ending = ending
        self.eval().requires_grad_(False)

    def forward(self, image: UInt8[Tensor, "1 h w 3"]) -> Tensor:
        """Return uint8 labels (1, h, w) or float32 logits (1, k, i, j) for an RGB image, 0..255."""
        logits = self.network(self.preparation(image))
        out: Tensor = self.ending(logits.float(), image)
        return out


def build_preparation(model: Segmenter) -> Preparation:
    """Return the preparation of a model's input."""
    return Preparation(model.pixel_mean, model.output_stride)
