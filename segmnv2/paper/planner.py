"""Plans: the maximal choices within a budget, with times measured on this machine, and their table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from segmnv2.errors import ConfigError, counted
from segmnv2.paper.choice import Choice, distance, find_published, maximal
from segmnv2.paper.footprint import Budget, Cost, Latencies, cost

Measure = Callable[[Choice], float]

TOLERANCE = 1.3
"""A choice is measured if its estimate is at most this many times the budget.

On two cores most first estimates were 0.9 to 1.3 times the measured time.
"""

CALIBRATION_SHARE = 0.3
"""Share of the time for measurements that only improve the estimate."""

CALIBRATION_POINTS = 12


@dataclass(frozen=True)
class Row:
    """A choice with its cost and its milliseconds for one image, measured, estimated or ``None``."""

    choice: Choice
    cost: Cost
    ms: float | None
    measured: bool

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; ``miou``, in percent, is null if none was published."""
        published = find_published(self.choice)
        return {
            **self.choice.to_dict(),
            **vars(self.cost),
            "ms": self.ms,
            "ms_source": None if self.ms is None else "measured" if self.measured else "estimated",
            "miou": published.miou if published else None,
            "miou_source": published.source if published else None,
        }


@dataclass(frozen=True)
class Plan:
    """The maximal choices within a budget.

    Attributes:
        budget: the budget.
        rows: rows of the table: nearest to published choices first, then those with most multiply-adds.
        published: published choices within the budget that are not among the rows.
        considered: number of choices.
        within: number of choices within the budget, by measured and estimated times.
        maximal: number of maximal choices within the budget.
        measured: number of measured choices.
        hurried: whether time ran out before all rows were measured.
    """

    budget: Budget
    rows: tuple[Row, ...]
    published: tuple[Row, ...]
    considered: int
    within: int
    maximal: int
    measured: int
    hurried: bool

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "budget": vars(self.budget),
            "rows": [row.to_dict() for row in self.rows],
            "published": [row.to_dict() for row in self.published],
            **{name: getattr(self, name) for name in ("considered", "within", "maximal", "measured", "hurried")},
        }


def plan(
    choices: Sequence[Choice],
    budget: Budget,
    measure: Measure | None,
    *,
    limit: int = 20,
    seconds: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
) -> Plan:
    """Find the maximal choices (:func:`segmnv2.paper.choice.maximal`) within a budget.

    The times of all rows are measured. If one is above the budget, all choices that are at least as good are dropped
    with it, and the next choices take their place.

    Args:
        choices: choices with one backbone, each once.
        budget: largest cost of a choice.
        measure: returns a choice's milliseconds for one image; ``None`` measures nothing.
        limit: largest number of rows.
        seconds: time for all measurements; none starts that is expected to end later, except the first.
        clock: returns the time in seconds.

    Raises:
        ConfigError: no choice is within the budget, the budget has a time without a measurement, ``limit`` is below 1,
            or ``seconds`` is not above 0.
    """
    if limit < 1:
        raise ConfigError(f"--limit {limit}: is not at least 1; give the number of rows to show")
    if not seconds > 0:
        raise ConfigError(f"--seconds {seconds:g}: is not above 0; give the time to measure, such as 60")
    if measure is None and budget.ms is not None:
        raise ConfigError(f"--ms {budget.ms:g}: a budget of time needs measurements; leave out --no-measure")
    costs = {choice: cost(choice) for choice in choices}
    affordable = [choice for choice in choices if budget.admits(costs[choice])]
    if not affordable:
        cheapest = min(choices, key=lambda choice: costs[choice].madds)
        raise ConfigError(
            f"no choice is within {budget}; the smallest, {cheapest}, has {costs[cheapest].madds:.4g} multiply-adds "
            f"and {costs[cheapest].params:.4g} parameters; raise the budget, or give smaller --width and --size"
        )
    search = _Search(affordable, costs, budget, limit)
    hurried = measure is not None and not search.run(measure, clock() + seconds, seconds, clock)
    return search.result(len(choices), hurried)


class _Search:
    """Measures the rows that would be shown, until all shown rows are measured."""

    def __init__(self, affordable: list[Choice], costs: dict[Choice, Cost], budget: Budget, limit: int) -> None:
        self.affordable, self.costs, self.budget, self.limit = affordable, costs, budget, limit
        self.latencies = Latencies()

    def run(self, measure: Measure, deadline: float, seconds: float, clock: Callable[[], float]) -> bool:
        """Measure until the deadline, and return whether all shown rows were measured."""
        self._calibrate(measure, deadline - (1 - CALIBRATION_SHARE) * seconds, clock)
        while waiting := self._waiting():
            left = deadline - clock()
            times = dict(zip(waiting, self.latencies.estimate(waiting), strict=True))
            # A measurement takes at least one warm-up run and one measured run.
            possible = [choice for choice in waiting if 2 * times[choice] / 1000 < left]
            if not possible:
                return False
            self._note(possible[0], measure(possible[0]))
        return True

    def _calibrate(self, measure: Measure, until: float, clock: Callable[[], float]) -> None:
        cheapest = min(self.affordable, key=lambda choice: self.costs[choice].madds)
        self._note(cheapest, measure(cheapest))
        ms = self.latencies.measured[cheapest]
        if self.budget.ms is not None and ms > self.budget.ms:
            raise ConfigError(
                f"--ms {self.budget.ms:g}: no choice is that fast here; the one with the fewest multiply-adds, "
                f"{cheapest}, takes {ms:.4g} ms; raise the budget, or give smaller --width and --size"
            )
        for choice in _calibration_choices(self.affordable, self.costs):
            if clock() >= until:
                break
            if choice not in self.latencies.measured:
                self._note(choice, measure(choice))

    def _note(self, choice: Choice, ms: float) -> None:
        self.latencies.measured[choice] = ms
        if self.budget.ms is not None and ms > self.budget.ms:
            known = self.latencies.measured
            self.affordable = [one for one in self.affordable if one in known or not one.at_least(choice)]

    def _waiting(self) -> list[Choice]:
        """Return the choices that would be shown and are not measured yet, in that order.

        They include choices whose estimate exceeds the budget by less than :data:`TOLERANCE`.
        """
        shown = [*self._shown(self._within(TOLERANCE)), *self._shown(self._within())]
        return [choice for choice in dict.fromkeys(shown) if choice not in self.latencies.measured]

    def _shown(self, within: list[Choice]) -> list[Choice]:
        return [*self._order(within)[: self.limit], *(choice for choice in within if find_published(choice))]

    def _within(self, tolerance: float = 1.0) -> list[Choice]:
        if self.budget.ms is None:
            return self.affordable
        most = dict.fromkeys(self.affordable, self.budget.ms * tolerance)
        most.update(dict.fromkeys(self.latencies.measured, self.budget.ms))
        times = self.latencies.estimate(self.affordable)
        return [choice for choice, ms in zip(self.affordable, times, strict=True) if ms <= most[choice]]

    def _order(self, within: list[Choice]) -> list[Choice]:
        return sorted(maximal(within), key=lambda choice: (distance(choice), -self.costs[choice].madds))

    def result(self, considered: int, hurried: bool) -> Plan:
        """Return the plan."""
        within = self._within()
        best = self._order(within)
        shown = best[: self.limit]
        return Plan(
            budget=self.budget,
            rows=self._rows(shown),
            published=self._rows([choice for choice in within if find_published(choice) and choice not in shown]),
            considered=considered,
            within=len(within),
            maximal=len(best),
            measured=len(self.latencies.measured),
            hurried=hurried,
        )

    def _rows(self, choices: list[Choice]) -> tuple[Row, ...]:
        known = self.latencies.measured
        times = self.latencies.estimate(choices) if known else [None] * len(choices)
        return tuple(
            Row(choice, self.costs[choice], ms, choice in known) for choice, ms in zip(choices, times, strict=True)
        )


def _calibration_choices(choices: list[Choice], costs: dict[Choice, Cost]) -> list[Choice]:
    """Return choices of one pass with extreme values on each axis, fewest multiply-adds first."""
    single = [choice for choice in choices if choice.passes == 1]
    widths, strides, heads, sizes = (
        sorted({getattr(choice, axis) for choice in single}) for axis in ("width", "output_stride", "aspp", "size")
    )
    ends = [{values[0], values[-1]} for values in (widths, strides, heads)]
    wanted = set(product(*ends, {sizes[0], sizes[len(sizes) // 2]}))
    corners = [c for c in single if (c.width, c.output_stride, c.aspp, c.size) in wanted]
    return sorted(corners, key=lambda choice: costs[choice].madds)[:CALIBRATION_POINTS]


COLUMNS = (
    "| width | OS | ASPP | size | scales | flip | params | MAdds | MAdds, paper's count | ms | published mIOU |",
    "|---:|---:|:-:|---:|---|:-:|---:|---:|---:|---:|---|",
)


def to_markdown(plan: Plan) -> str:
    """Return the table, further published choices, and an explanation."""
    times = " by measured and estimated times" if plan.budget.ms is not None else ""
    found = (
        f"{plan.within} of {plan.considered} choices are within {plan.budget}{times}, and {plan.maximal} of them are "
        "maximal: no other choice within the budget is at least as good on every axis."
    )
    lines = [*COLUMNS, *_cells(plan.rows), "", found]
    if len(plan.rows) < plan.maximal:
        lines.append(
            f"The table has the {len(plan.rows)} choices nearest to published ones; --limit shows more, and --width "
            "and --size restrict the choices."
        )
    if plan.published:
        lines += ["", "Published choices within the budget that are not in the table:", "", *COLUMNS]
        lines += _cells(plan.published)
    if plan.hurried:
        lines += ["", "Not all rows were measured in the given time; raise --seconds, or lower --limit."]
    lines += [
        "",
        "Published mIOU: percent on VOC 2012 val, pre-trained on COCO. The mIOU of other choices is not known: train "
        "and evaluate those that you consider. MAdds count all passes.",
    ]
    if any(row.ms is not None for row in (*plan.rows, *plan.published)):
        lines.append(
            "ms: time from an image of the size in memory to its label map, the median of several runs here; ~ marks "
            f"estimates from {counted(plan.measured, 'measured choice')}."
        )
    return "\n".join(lines)


def _cells(rows: Iterable[Row]) -> list[str]:
    return [f"| {' | '.join(_row(row))} |" for row in rows]


def _row(row: Row) -> list[str]:
    choice, cost = row.choice, row.cost
    published = find_published(choice)
    milliseconds = ""
    if row.ms is not None:
        milliseconds = ("" if row.measured else "~") + (f"{row.ms:.3g}" if row.ms < 1000 else f"{row.ms:.0f}")
    return [
        f"{choice.width:g}",
        str(choice.output_stride),
        "yes" if choice.aspp else "",
        str(choice.size),
        " ".join(f"{scale:g}" for scale in choice.scales),
        "yes" if choice.flip else "",
        f"{cost.params / 1e6:.3f} M",
        f"{cost.madds / 1e9:.4g} B",
        f"{cost.madds_paper / 1e9:.4g} B",
        milliseconds,
        f"{published.miou:.2f} ({published.source})" if published else "",
    ]
