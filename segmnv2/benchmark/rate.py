"""Repeated measurements of a speed, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segmnv2.errors import ConfigError


@dataclass(frozen=True)
class Rate:
    """Images a second, measured several times.

    The median stands for them, because a machine that is busy for a moment spoils a mean; the quartiles say how far
    single measurements lie apart.

    Attributes:
        values: one a measurement, each above 0.
    """

    values: tuple[float, ...]

    @classmethod
    def of(cls, images: int, seconds: Sequence[float]) -> Rate:
        """Return the rate of measurements that took ``seconds`` for ``images`` each."""
        return cls(tuple(images / max(second, 1e-9) for second in seconds))

    @property
    def median(self) -> float:
        """Images a second."""
        return float(np.median(self.values))

    @property
    def quartiles(self) -> tuple[float, float]:
        """What a quarter of the measurements stays below, and a quarter above; half of them lie between."""
        low, high = np.quantile(self.values, (0.25, 0.75))
        return float(low), float(high)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        low, high = self.quartiles
        return {"images_per_second": self.median, "quartiles": [low, high], "measurements": list(self.values)}


def check_count(name: str, value: int) -> None:
    """Refuse a number of measurements below 1.

    Raises:
        ConfigError: it is.
    """
    if value < 1:
        raise ConfigError(f"{name} {value} measures nothing; give at least 1, better 10 or more")
