"""Cost of a choice, from one trace a network: only the layers' grids depend on the image's size.

A layer at stride s of an image of side k * stride + 1 has ((side - 1) / s + 1)**2 samples, each of which takes its
weights once. So the multiply-adds of every size follow from how many weights there are at each stride, and thousands of
choices are counted in the time of a few dozen traces. A test holds the result to
:func:`segmnv2.models.cost.count_madds`.

The budget: what a choice may cost at most.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from segmnv2.errors import ConfigError
from segmnv2.inference.canvas import grid_side
from segmnv2.models.cost import count_parameters
from segmnv2.models.zoo import create_model
from segmnv2.nn.stride import scaled_side
from segmnv2.paper.choice import Choice


@dataclass(frozen=True)
class Budget:
    """Upper bounds; at least one is given.

    Attributes:
        madds: multiply-adds for one image, each output sample counted once.
        ms: milliseconds for one image, as measured on this machine.
        params: trainable values.

    Raises:
        ConfigError: none is given, or one is not a finite number above 0.
    """

    madds: float | None = None
    ms: float | None = None
    params: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if not given:
            raise ConfigError("no budget is given; give --madds (as 5e9), --ms (as 50), --params (as 3e6) or several")
        for name, value in given.items():
            if not 0 < value < math.inf:
                raise ConfigError(f"--{name} {value:g}: is not a finite number above 0; give what may be spent")

    def admits(self, cost: Cost) -> bool:
        """Return whether a cost is within the budget, time apart."""
        return (self.madds is None or cost.madds <= self.madds) and (self.params is None or cost.params <= self.params)

    def __str__(self) -> str:
        """Return the bounds in words."""
        words = [
            f"{self.madds:.4g} multiply-adds" if self.madds is not None else "",
            f"{self.ms:.4g} ms" if self.ms is not None else "",
            f"{self.params:.4g} parameters" if self.params is not None else "",
        ]
        return " and ".join(filter(None, words))


TRACE_SIDE = 65
"""Smallest side, of 32 k + 1, whose maps distinguish a layer on the grid from one on the image-level feature."""


class Layer(NamedTuple):
    """Key of convolutions whose costs grow alike; ``stride`` 0 is the image-level feature's."""

    stride: int
    dilation: int
    depthwise: bool

    def samples(self, side: int) -> int:
        """Return how many output samples such a layer has for an image of that side."""
        return ((side - 1) // self.stride + 1) ** 2 if self.stride else 1

    def executed(self, side: int) -> int:
        """Return how many TensorFlow 1 computed: of a dilated layer those of the padding too."""
        if self.dilation == 1:
            return self.samples(side)
        cells = (side - 1) // self.stride + 1
        return (self.dilation * -(-cells // self.dilation)) ** 2


@dataclass(frozen=True)
class Footprint:
    """A network at an output stride, as far as its cost goes.

    Attributes:
        output_stride: 8, 16 or 32.
        params: trainable values.
        weights: how many weights of convolutions there are for each kind of layer.
        channels: how many output channels.
    """

    output_stride: int
    params: int
    weights: Counter[Layer]
    channels: Counter[Layer]

    def side(self, side: int) -> int:
        """Return the side that the network pads an image to."""
        return grid_side(side, self.output_stride)

    def madds(self, side: int) -> int:
        """Return the multiply-adds of one pass over side x side pixels, each output sample counted once."""
        return sum(count * layer.samples(self.side(side)) for layer, count in self.weights.items())

    def madds_paper(self, side: int) -> int:
        """Return the same by the paper's count, see :func:`segmnv2.models.cost.count_madds`."""
        return sum(count * layer.executed(self.side(side)) for layer, count in self.weights.items())

    def effort(self, side: int) -> tuple[float, ...]:
        """Return what a pass' time may grow with: multiply-adds of dense and depthwise layers, and outputs; in 10^9."""
        dense, depthwise, outputs = 0, 0, 0
        for layer, count in self.weights.items():
            samples = layer.samples(self.side(side))
            dense += count * samples * (not layer.depthwise)
            depthwise += count * samples * layer.depthwise
            outputs += self.channels[layer] * samples
        return dense / 1e9, depthwise / 1e9, outputs / 1e9


@dataclass(frozen=True)
class Cost:
    """Cost of a choice for one image.

    Attributes:
        params: trainable values.
        madds: multiply-adds of all passes, each output sample counted once.
        madds_paper: the same with dilated convolutions counted as TensorFlow 1 executed them.
    """

    params: int
    madds: int
    madds_paper: int


def footprint(choice: Choice) -> Footprint:
    """Return the footprint of a choice's network; the first call for a network traces it without arithmetic.

    Raises:
        ConfigError: a width that the network refuses.
    """
    # Size and passes are no part of the network, so choices that differ in them alone share one trace.
    return _trace(replace(choice, size=TRACE_SIDE, scales=(1.0,), flip=False))


def cost(choice: Choice) -> Cost:
    """Return what a choice costs; errors as :func:`footprint`."""
    network = footprint(choice)
    sides = list(pass_sides(choice))
    return Cost(network.params, sum(map(network.madds, sides)), sum(map(network.madds_paper, sides)))


def effort(choice: Choice) -> tuple[float, ...]:
    """Return what a choice's time may grow with: :meth:`Footprint.effort` of all passes, their number, pixels labeled.

    Each pass' logits are brought to the image's size, whatever its own scale.
    """
    network = footprint(choice)
    efforts = map(sum, zip(*map(network.effort, pass_sides(choice)), strict=True))
    return (*efforts, choice.passes, choice.passes * choice.size**2 / 1e9)


def pass_sides(choice: Choice) -> Iterator[int]:
    """Yield the side of the scaled canvas of each pass."""
    for scale in choice.scales:
        yield from [scaled_side(choice.size, scale)] * (1 + choice.flip)


@cache
def _trace(choice: Choice) -> Footprint:
    with torch.device("meta"):  # counting needs shapes, not weights
        model = create_model(choice.model, width=choice.width, output_stride=choice.output_stride).eval()
    weights: Counter[Layer] = Counter()
    channels: Counter[Layer] = Counter()

    def note(conv: nn.Module, _inputs: object, output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        stride = (TRACE_SIDE - 1) // (output.shape[-1] - 1) if output.shape[-1] > 1 else 0
        layer = Layer(stride, conv.dilation[0], conv.groups > 1)
        weights[layer] += conv.weight.numel()
        channels[layer] += conv.out_channels

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    with torch.no_grad():
        model.raw_logits(torch.empty(1, 3, TRACE_SIDE, TRACE_SIDE, device="meta"))
    return Footprint(choice.output_stride, count_parameters(model), weights, channels)
