"""Costs of choices, from one trace per model, and their times, measured or estimated.

Only the grids of the layers depend on the image size. Sides of images are k * output_stride + 1. A layer at stride s
has ((side - 1) / s + 1)**2 samples, and each sample uses each weight once. So the number of weights at each stride
determines the multiply-adds for every size. A few dozen traces give the costs of thousands of choices. A test compares
the result with :func:`segmnv2.models.cost.trace_madds`.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

from segmnv2.engines.selection import choose_device
from segmnv2.engines.timing import time_in_turns
from segmnv2.errors import ConfigError
from segmnv2.inference.canvas import grid_side
from segmnv2.inference.scores import predict_labels
from segmnv2.models.cost import count_parameters
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model
from segmnv2.nn.stride import scaled_side
from segmnv2.paper.choice import Choice


@dataclass(frozen=True)
class Budget:
    """Upper bounds of the cost of a choice, at least one.

    Attributes:
        madds: multiply-adds for one image, each output sample counted once.
        ms: milliseconds for one image, measured on this machine.
        params: trainable values.

    Raises:
        ConfigError: no bound is given, or one is not a finite number above 0.
    """

    madds: float | None = None
    ms: float | None = None
    params: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if not given:
            raise ConfigError("no budget is given; give one or more of --madds 5e9, --ms 50 and --params 3e6")
        for name, value in given.items():
            if not 0 < value < math.inf:
                raise ConfigError(f"--{name} {value:g}: is not a finite number above 0; give the upper bound")

    def admits(self, cost: Cost) -> bool:
        """Return whether a cost is within the budget; the bound of time is not checked."""
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
"""Smallest side 32 k + 1 at which maps of layers on the grid are larger than the image-level feature."""


class Layer(NamedTuple):
    """Kind of convolutions whose costs grow equally with the image; ``stride`` 0 is of the image-level feature."""

    stride: int
    dilation: int
    depthwise: bool

    def samples(self, side: int) -> int:
        """Return the number of output samples of such a layer for an image of that side."""
        return ((side - 1) // self.stride + 1) ** 2 if self.stride else 1

    def executed(self, side: int) -> int:
        """Return the number of samples that TensorFlow 1 computed, which include the padding of dilated layers."""
        if self.dilation == 1:
            return self.samples(side)
        cells = (side - 1) // self.stride + 1
        return (self.dilation * -(-cells // self.dilation)) ** 2


@dataclass(frozen=True)
class Footprint:
    """A model at an output stride: its trainable values, and weights and output channels of each kind of layer."""

    output_stride: int
    params: int
    weights: Counter[Layer]
    channels: Counter[Layer]

    def samples(self, side: int) -> Iterator[tuple[Layer, int, int]]:
        """Yield each kind of layer, its output samples for an image of that side, and those of TensorFlow 1."""
        padded = grid_side(side, self.output_stride)
        return ((layer, layer.samples(padded), layer.executed(padded)) for layer in self.weights)

    def effort(self, side: int) -> tuple[float, ...]:
        """Return the work of one pass, in 10^9: multiply-adds of dense and of depthwise layers, and outputs."""
        dense, depthwise, outputs = 0, 0, 0
        for layer, samples, _ in self.samples(side):
            dense += self.weights[layer] * samples * (not layer.depthwise)
            depthwise += self.weights[layer] * samples * layer.depthwise
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
    """Return the footprint of a choice's model; the first call for a model traces it without arithmetic.

    Raises:
        ConfigError: the model does not exist at that width.
    """
    # Size and passes do not belong to the model, so choices that differ only in these share one trace.
    return _trace(replace(choice, size=TRACE_SIDE, scales=(1.0,), flip=False))


def cost(choice: Choice) -> Cost:
    """Return the cost of a choice; errors are those of :func:`footprint`."""
    model, plain, paper = footprint(choice), 0, 0
    for side in pass_sides(choice):
        for layer, samples, executed in model.samples(side):
            plain += model.weights[layer] * samples
            paper += model.weights[layer] * executed
    return Cost(model.params, plain, paper)


def effort(choice: Choice) -> tuple[float, ...]:
    """Return the amounts of work of a choice: :meth:`Footprint.effort` of all passes, their number, and labeled pixels.

    The logits of each pass are resized to the image's size, so each pass counts all pixels.
    """
    model = footprint(choice)
    efforts = map(sum, zip(*map(model.effort, pass_sides(choice)), strict=True))
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


class Latencies:
    """Measured and estimated times of choices.

    An estimate multiplies each amount of work (:func:`effort`) by a price that is never negative, and adds them up. The
    prices minimize the relative errors of the measured times. An estimate only decides which choice to measure next.

    Attributes:
        measured: milliseconds of each measured choice.
    """

    def __init__(self) -> None:
        """Start without measurements."""
        self.measured: dict[Choice, float] = {}

    def estimate(self, choices: Sequence[Choice]) -> list[float]:
        """Return the milliseconds of each choice, measured or estimated; there must be at least one measurement."""
        known = np.array([effort(choice) for choice in self.measured])
        ms = np.array(list(self.measured.values()))
        efforts = np.array([effort(choice) for choice in choices]).reshape(len(choices), known.shape[1])
        if len(ms) < known.shape[1]:  # too few to fit all prices: only that of multiply-adds is fitted
            known, efforts = known[:, :1], efforts[:, :1]
        prices, _ = nnls(known / ms[:, None], np.ones(len(ms)))
        estimates = efforts @ prices
        return [self.measured.get(c, float(one)) for c, one in zip(choices, estimates, strict=True)]


MOST_RUNS = 7
ENOUGH_SECONDS = 1.0
"""Seconds of measured runs after which no further run starts."""

SEED = 0


class Stopwatch:
    """Measures the time of choices, with untrained weights, which do not change it; models are kept in memory."""

    def __init__(self, device: str = "auto", clock: Callable[[], float] = time.perf_counter) -> None:
        """Choose the device; ``clock`` returns the time in seconds."""
        self.device = choose_device(device)
        self._clock = clock
        self._models: dict[tuple[str, float], Segmenter] = {}

    def __call__(self, choice: Choice) -> float:
        """Return the milliseconds for one image of size x size: the median of several runs after one warm-up run.

        A run starts with an image in memory and ends with a label map in the CPU's memory. Reading and writing of files
        are not measured.
        """
        model = self._model(choice)
        image = np.random.default_rng(SEED).integers(0, 256, (choice.size, choice.size, 3), dtype=np.uint8)

        def run(_number: int) -> None:
            predict_labels(model, image, size=choice.size, scales=choice.scales, flip=choice.flip)

        seconds = time_in_turns({"run": run}, rounds=MOST_RUNS, warm_up=1, enough=ENOUGH_SECONDS, clock=self._clock)
        return 1000 * float(np.median(seconds["run"]))

    def _model(self, choice: Choice) -> Segmenter:
        key = (choice.model, choice.width)
        if key not in self._models:
            model = create_model(choice.model, width=choice.width).eval().to(self.device)
            self._models[key] = model.to(memory_format=torch.channels_last)  # as in Predictor
        self._models[key].set_output_stride(choice.output_stride)
        return self._models[key]
