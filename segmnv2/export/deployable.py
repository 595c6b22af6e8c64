"""A network with its pre- and post-processing inside: a uint8 image in, a label map out.

Three parts in a row, which formats take together or one by one: :class:`Preparation`, the network
(:class:`segmnv2.engines.inference_network.GridNetwork`), and an ending.

The label map in additions and comparisons of whole planes, one for each class.

Phones' kernels for argmax look at one number after the other on one core; those for sums, differences and maxima are
vectorised and take all cores.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from segmnv2.export.endings import interpolation_matrix
from segmnv2.models.segmenter import Segmenter

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


class Preparation(nn.Module):
    """A uint8 image as the network needs it: channels first, padded right and bottom with the mean pixel.

    Attributes:
        mean: (1, 3, 1, 1) of the network's normalization, 0..255, which is what padding is made of.
        output_stride: of the network; sides become k * output_stride + 1.
    """

    mean: Tensor

    def __init__(self, mean: Float[Tensor, "1 3 1 1"], output_stride: int) -> None:
        """Keep the mean pixel.

        Args:
            mean: RGB, 0..255.
            output_stride: of the network.
        """
        super().__init__()
        self.register_buffer("mean", mean.detach().clone())
        values = mean.flatten().tolist()
        self.fill = values[0] if len(set(values)) == 1 else None
        self.output_stride = output_stride

    def forward(self, image: UInt8[Tensor, "1 h w 3"]) -> Float[Tensor, "1 3 i j"]:
        """Return RGB pixels, 0..255.

        Args:
            image: RGB, 0..255, sides of at least 2.
        """
        pixels = image.permute(0, 3, 1, 2).to(torch.float32)
        bottom, right = (-(side - 1) % self.output_stride for side in image.shape[1:3])
        if isinstance(bottom, int) and isinstance(right, int) and not bottom and not right:
            return pixels  # a size known beforehand that needs none
        if self.fill is not None:
            return F.pad(pixels, (0, right, 0, bottom), value=self.fill)
        return F.pad(pixels - self.mean, (0, right, 0, bottom)) + self.mean


class Deployable(nn.Module):
    """A network from a uint8 image to its label map, or to logits at output stride.

    Attributes:
        preparation: image -> pixels.
        network: pixels -> logits.
        ending: (logits, image) -> what the file gives out.
    """

    def __init__(self, preparation: nn.Module, network: nn.Module, ending: nn.Module) -> None:
        """Join the parts.

        Args:
            preparation: usually :class:`Preparation`.
            network: a :class:`segmnv2.engines.inference_network.GridNetwork`, or what a quantizer made of it.
            ending: one of :mod:`segmnv2.export.endings`.
        """
        super().__init__()
        self.preparation = preparation
        self.network = network
        self.ending = ending
        self.eval().requires_grad_(False)

    def forward(self, image: UInt8[Tensor, "1 h w 3"]) -> Tensor:
        """Return uint8 labels (1, h, w), or float32 logits (1, k, i, j).

        Args:
            image: RGB, 0..255.
        """
        logits = self.network(self.preparation(image))
        out: Tensor = self.ending(logits.float(), image)
        return out


def build_preparation(model: Segmenter) -> Preparation:
    """Return what comes before the network."""
    return Preparation(model.pixel_mean, model.output_stride)
