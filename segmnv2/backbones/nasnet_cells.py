"""The two cells of NASNet-A, which read the outputs of the two cells before them.

``set_stride_and_dilation`` of a cell applies to the layers that read its inputs. If a reduction cell has stride 1, its
later layers get twice the dilation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.nn.conv import Layers, SameAveragePool, SameConv2d, SameMaxPool


class Separable(nn.Module):
    """ReLU, a depthwise filter, a 1x1 convolution, batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, layers: Layers) -> None:
        """Build the layer with a filter of odd side ``kernel``."""
        super().__init__()
        self.depthwise = SameConv2d(inputs, inputs, kernel, groups=inputs, padding=layers.padding)
        self.pointwise = SameConv2d(inputs, outputs)
        self.norm = layers.norm(outputs)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Map ``(b, c, h, w)`` to ``(b, d, ceil(h / stride), ceil(w / stride))``."""
        out: Tensor = self.norm(self.pointwise(self.depthwise(F.relu(x))))
        return out


class SeparableTwice(nn.Module):
    """Two separable layers with filters of the same size; only the first one has a stride."""

    def __init__(self, inputs: int, outputs: int, kernel: int, layers: Layers) -> None:
        """Build both layers with filters of odd side ``kernel``."""
        super().__init__()
        self.first = Separable(inputs, outputs, kernel, layers)
        self.second = Separable(outputs, outputs, kernel, layers)

    def set_strides_and_dilations(self, stride: int, dilation: int, second_dilation: int) -> None:
        """Set stride and dilation of the first layer, and the dilation of the second."""
        self.first.depthwise.set_stride_and_dilation(stride, dilation)
        self.second.depthwise.set_stride_and_dilation(1, second_dilation)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Map ``(b, c, h, w)`` to ``(b, d, ceil(h / stride), ceil(w / stride))``."""
        out: Tensor = self.second(self.first(x))
        return out


class FactorizedReduction(nn.Module):
    """Two 1x1 convolutions that halve a map: one reads the even samples, one the samples a row and a column further.

    At stride 1 both read every sample, and the second is shifted by the dilation. Sampled on the coarser grid, the
    result is the same map. Samples outside the map are zeros.

    Source: ``factorized_reduction`` of slim/nets/nasnet/nasnet_utils.py.
    """

    def __init__(self, inputs: int, outputs: int, layers: Layers) -> None:
        """Build the layer; ``outputs`` is even."""
        super().__init__()
        self.path_1 = SameConv2d(inputs, outputs // 2)
        self.path_2 = SameConv2d(inputs, outputs // 2)
        self.norm = layers.norm(outputs)
        self.set_stride_and_dilation(2, 1)

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change the stride of the sampling and the distance between the samples of the two paths."""
        self.stride, self.dilation = stride, dilation

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Map ``(b, c, h, w)`` to ``(b, d, ceil(h / stride), ceil(w / stride))``."""
        shifted = F.pad(x[..., self.dilation :, self.dilation :], (0, self.dilation, 0, self.dilation))
        paths = self.path_1(self._sample(x)), self.path_2(self._sample(shifted))
        out: Tensor = self.norm(torch.cat(paths, dim=1))
        return out

    def _sample(self, x: Tensor) -> Tensor:
        return x[..., :: self.stride, :: self.stride]


class Cell(nn.Module, ABC):
    """First layers of both cells, which give both inputs ``filters`` channels and the size of the newer one."""

    fan_out: int
    """Channels of the output, in multiples of ``filters``."""

    def __init__(
        self, inputs: int, previous: int | None, filters: int, *, previous_is_finer: bool, layers: Layers
    ) -> None:
        """Build the first layers, for ``inputs`` channels of the last cell and ``previous`` of the one before.

        The first cell has no ``previous`` and reads its input twice. ``previous_is_finer`` states whether the older
        input has a smaller nominal stride.
        """
        super().__init__()
        self.squeeze = layers.conv(inputs, filters, act=False)
        self.squeeze_previous: nn.Module | None = None
        if previous is not None:
            self.squeeze_previous = (
                FactorizedReduction(previous, filters, layers)
                if previous_is_finer
                else layers.conv(previous, filters, act=False)
            )

    def forward(
        self, x: Float[Tensor, "b c h w"], previous: Float[Tensor, "b d _h _w"] | None
    ) -> Float[Tensor, "b e i j"]:
        """Map the last two outputs to the output of the cell, ``(b, fan_out * filters, ceil(h / stride), ...)``."""
        older = x
        if self.squeeze_previous is not None:
            assert previous is not None
            older = self.squeeze_previous(F.relu(previous))
        return torch.cat(self._combine(self.squeeze(F.relu(x)), older), dim=1)

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change stride and dilation of the layers that read the cell's inputs, and of the layers after them."""
        if isinstance(self.squeeze_previous, FactorizedReduction):
            # The cell before either halved the grid or had half of this dilation.
            self.squeeze_previous.set_stride_and_dilation(2 if dilation == 1 else 1, max(dilation // 2, 1))
        self._set_layers(stride, dilation)

    @abstractmethod
    def _set_layers(self, stride: int, dilation: int) -> None:
        """Change strides and dilations of the combined layers."""

    @abstractmethod
    def _combine(self, x: Tensor, previous: Tensor) -> list[Tensor]:
        """Return the maps whose concatenation is the output."""


class NormalCell(Cell):
    """The cell that keeps the resolution: five sums and the older input, 6 * ``filters`` channels.

    Source: NASNet (Zoph et al., 2018), Figure 4 left; ``NasNetANormalCell`` of slim/nets/nasnet/nasnet_utils.py.
    """

    fan_out = 6

    def __init__(
        self, inputs: int, previous: int | None, filters: int, *, previous_is_finer: bool, layers: Layers
    ) -> None:
        """Build the cell; the arguments are those of :class:`Cell`."""
        super().__init__(inputs, previous, filters, previous_is_finer=previous_is_finer, layers=layers)
        self.sum_0_left = SeparableTwice(filters, filters, 5, layers)
        self.sum_0_right = SeparableTwice(filters, filters, 3, layers)
        self.sum_1_left = SeparableTwice(filters, filters, 5, layers)
        self.sum_1_right = SeparableTwice(filters, filters, 3, layers)
        self.sum_4_left = SeparableTwice(filters, filters, 3, layers)
        self.average = SameAveragePool(padding=layers.padding)

    def _set_layers(self, stride: int, dilation: int) -> None:
        assert stride == 1
        for layer in (self.sum_0_left, self.sum_0_right, self.sum_1_left, self.sum_1_right, self.sum_4_left):
            layer.set_strides_and_dilations(1, dilation, dilation)
        self.average.set_stride_and_dilation(1, dilation)

    def _combine(self, x: Tensor, previous: Tensor) -> list[Tensor]:
        return [
            previous,
            self.sum_0_left(x) + self.sum_0_right(previous),
            self.sum_1_left(previous) + self.sum_1_right(previous),
            self.average(x) + previous,
            2 * self.average(previous),  # NASNet's search chose the same average for both sides of the sum
            self.sum_4_left(x) + x,
        ]


class ReductionCell(Cell):
    """The cell that halves the resolution: four of its five sums, 4 * ``filters`` channels.

    Source: NASNet (Zoph et al., 2018), Figure 4 right; ``NasNetAReductionCell`` of slim/nets/nasnet/nasnet_utils.py.
    """

    fan_out = 4

    def __init__(
        self, inputs: int, previous: int | None, filters: int, *, previous_is_finer: bool, layers: Layers
    ) -> None:
        """Build the cell; the arguments are those of :class:`Cell`."""
        super().__init__(inputs, previous, filters, previous_is_finer=previous_is_finer, layers=layers)
        older = inputs if previous is None else filters
        self.sum_0_left = SeparableTwice(filters, filters, 5, layers)
        self.sum_0_right = SeparableTwice(older, filters, 7, layers)
        self.sum_1_right = SeparableTwice(older, filters, 7, layers)
        self.sum_2_right = SeparableTwice(older, filters, 5, layers)
        self.sum_4_left = SeparableTwice(filters, filters, 3, layers)
        self.largest = SameMaxPool(padding=layers.padding)
        self.average = SameAveragePool(padding=layers.padding)
        self.average_behind = SameAveragePool(padding=layers.padding)

    def _set_layers(self, stride: int, dilation: int) -> None:
        later = dilation if stride == 2 else 2 * dilation
        for layer in (self.sum_0_left, self.sum_0_right, self.sum_1_right, self.sum_2_right):
            layer.set_strides_and_dilations(stride, dilation, later)
        self.largest.set_stride_and_dilation(stride, dilation)
        self.average.set_stride_and_dilation(stride, dilation)
        self.sum_4_left.set_strides_and_dilations(1, later, later)
        self.average_behind.set_stride_and_dilation(1, later)

    def _combine(self, x: Tensor, previous: Tensor) -> list[Tensor]:
        largest = self.largest(x)
        sum_0 = self.sum_0_left(x) + self.sum_0_right(previous)
        sum_1 = largest + self.sum_1_right(previous)
        return [
            sum_1,
            self.average(x) + self.sum_2_right(previous),
            self.average_behind(sum_0) + sum_1,
            self.sum_4_left(sum_0) + largest,
        ]
