"""Times that were measured, and from them an estimate of those that were not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from segmnv2.plan.choice import Choice
from segmnv2.plan.footprint import effort


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
