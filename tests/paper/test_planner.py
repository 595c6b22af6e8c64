"""Plans with times from a function and a clock that advances by these times."""

from __future__ import annotations

import pytest

from segmnv2.errors import ConfigError
from segmnv2.paper.choice import Choice, distance, find_published, list_choices, maximal
from segmnv2.paper.footprint import Budget, cost
from segmnv2.paper.planner import Plan, plan, to_markdown

CHOICES = [c for c in list_choices(widths=[0.5, 1.0], sizes=[129, 257, 513]) if len(c.scales) in (1, 3)]


class Machine:
    """A machine whose times are a function of the choice; measuring moves its clock by two runs."""

    def __init__(self, speed: float = 100.0) -> None:
        self.speed, self.now = speed, 0.0
        self.measured: list[Choice] = []

    def ms(self, choice: Choice) -> float:
        """Return milliseconds that grow with every axis, but differently from all estimates."""
        return 2.0 * choice.passes + cost(choice).madds ** 0.8 / 1e7 * self.speed / 100

    def measure(self, choice: Choice) -> float:
        self.measured.append(choice)
        self.now += 2 * self.ms(choice) / 1000
        return self.ms(choice)

    def clock(self) -> float:
        return self.now


def planned(budget: Budget, machine: Machine | None = None, limit: int = 10**6, seconds: float = 1e6) -> Plan:
    if machine is None:
        return plan(CHOICES, budget, None, limit=limit)
    return plan(CHOICES, budget, machine.measure, limit=limit, seconds=seconds, clock=machine.clock)


@pytest.mark.parametrize("budget", [Budget(madds=2e9), Budget(params=1e6), Budget(madds=5e9, params=2.5e6)], ids=str)
def test_rows_are_the_maximal_choices_within_the_budget(budget: Budget) -> None:
    result = planned(budget)
    within = [choice for choice in CHOICES if budget.admits(cost(choice))]
    assert {row.choice for row in result.rows} == set(maximal(within))
    assert (result.considered, result.within, result.maximal) == (len(CHOICES), len(within), len(result.rows))
    assert all(row.cost == cost(row.choice) and row.ms is None and not row.measured for row in result.rows)
    assert (result.measured, result.hurried) == (0, False)


@pytest.mark.parametrize("ms", [8.0, 30.0, 100.0])
@pytest.mark.parametrize("madds", [None, 3e9])
def test_rows_within_a_time_are_measured_and_maximal(ms: float, madds: float | None) -> None:
    machine = Machine()
    result = planned(Budget(ms=ms, madds=madds), machine)
    for row in result.rows:
        assert row.measured
        assert row.choice in machine.measured
        assert row.ms == machine.ms(row.choice) <= ms
        assert madds is None or row.cost.madds <= madds
    shown = [row.choice for row in result.rows]
    assert maximal(shown) == shown
    true = maximal([c for c in CHOICES if machine.ms(c) <= ms and (madds is None or cost(c).madds <= madds)])
    # The estimate decides what is measured, so a few may be missed, but not most.
    assert len(set(shown) & set(true)) >= 0.8 * len(true)
    assert len(set(machine.measured)) == len(machine.measured)
    assert not result.hurried


def test_a_choice_better_than_one_that_took_too_long_is_not_measured() -> None:
    machine = Machine()
    planned(Budget(ms=30.0), machine)
    corners = 12  # choices for the estimate, which are always measured
    too_long: list[Choice] = []
    for choice in machine.measured:
        if len(too_long) > corners:
            assert not any(choice.at_least(one) for one in too_long)
        if machine.ms(choice) > 30.0:
            too_long.append(choice)
    assert too_long


def test_a_budget_without_time_measures_the_rows_shown() -> None:
    machine = Machine()
    result = planned(Budget(madds=2e9), machine, limit=5)
    assert len(result.rows) == 5 < result.maximal
    assert all(row.measured and row.ms == machine.ms(row.choice) for row in (*result.rows, *result.published))


def test_remaining_rows_are_estimated_when_time_runs_out() -> None:
    machine = Machine(speed=1000.0)
    result = planned(Budget(madds=20e9), machine, seconds=3.0)
    assert result.hurried
    assert any(row.measured for row in result.rows)
    rest = [row for row in result.rows if not row.measured]
    assert rest
    assert all(row.ms is not None and row.ms > 0 for row in rest)
    assert len(machine.measured) == result.measured
    text = to_markdown(result)
    assert "| ~" in text
    assert "--seconds" in text


def test_rows_nearest_to_published_choices_come_first() -> None:
    rows = planned(Budget(madds=6e9)).rows
    places = [(distance(row.choice), -row.cost.madds) for row in rows]
    assert places == sorted(places)
    published = find_published(rows[0].choice)
    assert published is not None
    assert rows[0].to_dict()["miou"] == published.miou == 75.70
    assert f"{published.miou:.2f} ({published.source})" in to_markdown(planned(Budget(madds=6e9)))


def test_a_published_choice_that_is_not_maximal_is_shown_separately() -> None:
    result = planned(Budget(madds=6e9))
    assert [row.choice for row in result.published] == [Choice("mobilenet_v2", 1.0, 16, False, 513)]
    assert not {row.choice for row in result.published} & {row.choice for row in result.rows}
    assert all(row.to_dict()["miou"] is None for row in result.rows if not find_published(row.choice))


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({}, "no budget"),
        ({"madds": 0.0}, "--madds 0"),
        ({"ms": -3.0}, "--ms -3"),
        ({"params": float("nan")}, "--params nan"),
        ({"madds": float("inf")}, "--madds inf"),
    ],
)
def test_a_budget_without_a_positive_bound_is_refused(values: dict[str, float], part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Budget(**values)
    assert part in str(caught.value)


def test_a_budget_that_is_too_small_is_refused_with_the_smallest_choice() -> None:
    cheapest = min(CHOICES, key=lambda choice: cost(choice).madds)
    with pytest.raises(ConfigError) as caught:
        planned(Budget(madds=1e6))
    for part in (str(cheapest), f"{cost(cheapest).madds:.4g}", "1e+06 multiply-adds"):
        assert part in str(caught.value)
    machine = Machine()
    with pytest.raises(ConfigError) as caught:
        planned(Budget(ms=0.5), machine)
    for part in ("--ms 0.5", str(cheapest), f"{machine.ms(cheapest):.4g} ms"):
        assert part in str(caught.value)
    assert machine.measured == [cheapest]


def test_a_budget_of_time_needs_measurements() -> None:
    with pytest.raises(ConfigError, match="--no-measure"):
        planned(Budget(ms=50))


@pytest.mark.parametrize(("arguments", "part"), [({"limit": 0}, "--limit 0"), ({"seconds": 0.0}, "--seconds 0")])
def test_a_limit_or_time_of_zero_is_refused(arguments: dict[str, float], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        planned(Budget(madds=1e9), Machine(), **arguments)  # type: ignore[arg-type]
