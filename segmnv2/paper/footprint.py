"""Cost of a choice, from one trace a network, and its time: measured, or estimated from the times that were measured.

Only the layers' grids depend on the image's size. A layer at stride s of an image of side k * stride + 1 has
((side - 1) / s + 1)**2 samples, each of which takes its weights once. So the multiply-adds of every size follow from
how many weights there are at each stride, and thousands of choices are counted in the time of a few dozen traces. A
test holds the result to :func:`segmnv2.models.cost.trace_madds`.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

from segmnv2.engines.pytorch import torch_threads
from segmnv2.engines.selection import choose_device
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
    """A network at an output stride: its trainable values, and weights and output channels of each kind of layer."""

    output_stride: int
    params: int
    weights: Counter[Layer]
    channels: Counter[Layer]

    def samples(self, side: int) -> Iterator[tuple[Layer, int, int]]:
        """Yield each kind of layer with its output samples for an image of that side, and those of TensorFlow 1."""
        padded = grid_side(side, self.output_stride)
        return ((layer, layer.samples(padded), layer.executed(padded)) for layer in self.weights)

    def effort(self, side: int) -> tuple[float, ...]:
        """Return what a pass' time may grow with: multiply-adds of dense and depthwise layers, and outputs; in 10^9."""
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
    """Return the footprint of a choice's network; the first call for a network traces it without arithmetic.

    Raises:
        ConfigError: a width that the network refuses.
    """
    # Size and passes are no part of the network, so choices that differ in them alone share one trace.
    return _trace(replace(choice, size=TRACE_SIDE, scales=(1.0,), flip=False))


def cost(choice: Choice) -> Cost:
    """Return what a choice costs; errors as :func:`footprint`."""
    network, plain, paper = footprint(choice), 0, 0
    for side in pass_sides(choice):
        for layer, samples, executed in network.samples(side):
            plain += network.weights[layer] * samples
            paper += network.weights[layer] * executed
    return Cost(network.params, plain, paper)


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


class Latencies:
    """Measured and estimated times of choices.

    The estimate is a sum over the passes of what each may take time for (its start, multiply-adds of dense and of
    depthwise convolutions, outputs to write, pixels to label), each with a price that is never negative. The prices fit
    the times measured so far, long and short ones alike. An estimate only says what is worth measuring next.
    """

    def __init__(self) -> None:
        """Begin with nothing known."""
        self.measured: dict[Choice, float] = {}  # in milliseconds

    def estimate(self, choices: Sequence[Choice]) -> list[float]:
        """Return milliseconds for each choice: those measured, else estimated from at least one measurement."""
        known = np.array([effort(choice) for choice in self.measured])
        ms = np.array(list(self.measured.values()))
        efforts = np.array([effort(choice) for choice in choices]).reshape(len(choices), known.shape[1])
        if len(ms) < known.shape[1]:  # too few to distinguish prices: the first, of multiply-adds, stands for all
            known, efforts = known[:, :1], efforts[:, :1]
        prices, _ = nnls(known / ms[:, None], np.ones(len(ms)))
        estimates = efforts @ prices
        return [self.measured.get(c, float(one)) for c, one in zip(choices, estimates, strict=True)]


MOST_RUNS = 7
ENOUGH_SECONDS = 1.0
"""After which no further run begins; the median of one long run is as good as that of many short ones."""

SEED = 0


class Stopwatch:
    """Measures choices; networks have fresh weights, which change no speed, and are kept for the next choice."""

    def __init__(self, device: str = "auto", clock: Callable[[], float] = time.perf_counter) -> None:
        """Prepare to measure on a device, as ``auto``, with a clock in seconds."""
        self.device = choose_device(device)
        self._clock = clock
        self._models: dict[tuple[str, float], Segmenter] = {}

    def __call__(self, choice: Choice) -> float:
        """Return the milliseconds for one image of size x size, the median of several runs after one to warm up.

        The image is in memory already: decoding a file, and writing its label map, are not in it. Label maps end in
        the computer's memory, so that a GPU's work is waited for.
        """
        model = self._model(choice)
        image = np.random.default_rng(SEED).integers(0, 256, (choice.size, choice.size, 3), dtype=np.uint8)

        def run() -> float:
            began = self._clock()
            predict_labels(model, image, size=choice.size, scales=choice.scales, flip=choice.flip)
            return self._clock() - began

        run()
        seconds = [run()]
        while len(seconds) < MOST_RUNS and sum(seconds) < ENOUGH_SECONDS:
            seconds.append(run())
        return 1000 * float(np.median(seconds))

    def _model(self, choice: Choice) -> Segmenter:
        key = (choice.model, choice.width)
        if key not in self._models:
            model = create_model(choice.model, width=choice.width).eval().to(self.device)
            self._models[key] = model.to(memory_format=torch.channels_last)  # as Predictor has it
        self._models[key].set_output_stride(choice.output_stride)
        return self._models[key]


@contextmanager
def thread_count(threads: int | None) -> Iterator[None]:
    """Let PyTorch compute on that many threads while the block runs; ``None`` leaves it unchanged.

    Raises:
        ConfigError: fewer than one.
    """
    if threads is not None and threads < 1:
        raise ConfigError(f"--threads {threads}: is not at least 1; leave it out for PyTorch's own number")
    with torch_threads(threads or torch.get_num_threads()):
        yield
