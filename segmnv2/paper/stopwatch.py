"""Measured time of a choice: one image to its label map, as ``segmnv2 infer`` does it.

Times that were measured, and from them an estimate of those that were not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from scipy.optimize import nnls

from segmnv2.engines.process import torch_threads
from segmnv2.engines.selection import choose_device
from segmnv2.errors import ConfigError
from segmnv2.inference.scores import predict_labels
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model
from segmnv2.paper.choice import Choice
from segmnv2.paper.footprint import effort


class Latencies:
    """Measured and estimated times of choices.

    The estimate is a sum over the passes of what each may take time for (its start, multiply-adds of dense and of
    depthwise convolutions, outputs to write, pixels to label), each with a price that is never negative. The prices fit
    the times measured so far, long and short ones alike. An estimate only says what is worth measuring next.
    """

    def __init__(self) -> None:
        """Begin with nothing known."""
        self.measured: dict[Choice, float] = {}

    def add(self, choice: Choice, ms: float) -> None:
        """Note a measured time, in milliseconds."""
        self.measured[choice] = ms

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
        """Prepare to measure.

        Args:
            device: as for :func:`segmnv2.engines.selection.choose_device`.
            clock: seconds since any moment.

        Raises:
            ConfigError: the device is not there.
        """
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
