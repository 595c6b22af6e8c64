"""The budget: what a choice may cost at most."""

from __future__ import annotations

import math
from dataclasses import dataclass

from segmnv2.errors import ConfigError
from segmnv2.plan.footprint import Cost


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
