from __future__ import annotations

from types import SimpleNamespace

import pytest

from segmnv2.benchmark import compare
from segmnv2.benchmark.compare import Rate, apart, check_count, interleave, paired_ratio
from segmnv2.errors import ConfigError


def test_a_rate_is_images_over_seconds() -> None:
    rate = Rate.of(4, [2.0, 1.0, 4.0])
    assert rate.values == (2.0, 4.0, 1.0)
    assert rate.median == 2.0
    assert rate.quartiles == (1.5, 3.0)


def test_one_measurement_has_no_spread() -> None:
    rate = Rate.of(3, [1.5])
    assert rate.quartiles == (rate.median, rate.median) == (2.0, 2.0)


@pytest.mark.parametrize("count", [0, -3])
def test_nothing_to_measure_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"steps {count} .*at least 1"):
        check_count("steps", count)


def test_all_contenders_work_in_every_round_and_take_turns_in_beginning() -> None:
    calls: list[tuple[str, int]] = []
    contenders = {name: (lambda number, name=name: calls.append((name, number))) for name in "abc"}
    seconds = interleave(contenders, rounds=2, warm_up=1)
    assert [name for name, _ in calls] == list("abcbcacab")
    assert [number for _, number in calls] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_a_ratio_is_paired_by_round() -> None:
    # The machine was ten times slower in the second round, for both alike.
    ratio = paired_ratio([2.0, 20.0, 2.0], [1.0, 10.0, 1.0])
    assert (ratio.value, ratio.low, ratio.high) == (2.0, 2.0, 2.0)


def test_the_interval_holds_the_median_and_widens_with_the_spread() -> None:
    narrow = paired_ratio([2.0, 2.1, 1.9, 2.0], [1.0] * 4)
    wide = paired_ratio([1.0, 3.0, 1.5, 2.5], [1.0] * 4)
    for ratio in (narrow, wide):
        assert ratio.low <= ratio.value <= ratio.high
    assert wide.high - wide.low > narrow.high - narrow.low


class Contender:
    """A process that is built, or is not for a reason."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        self.process = SimpleNamespace(kill=lambda: None)

    def wait(self) -> None:
        if self.reason:
            raise ConfigError(self.reason)


@pytest.fixture(autouse=True)
def without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "Apart", Contender)


def test_who_cannot_be_built_is_left_out_with_the_reason() -> None:
    reasons: list[str] = []
    with apart({"a": ("no memory",), "b": (), "c": ("no disk",)}, reasons.append) as steps:
        assert list(steps) == ["b"]
    assert reasons == ["a is left out: no memory", "c is left out: no disk"]


def test_none_to_compare_is_an_error_and_so_is_one_where_all_are_needed() -> None:
    reasons: list[str] = []
    with pytest.raises(ConfigError, match="no disk"), apart({"a": ("no memory",), "b": ("no disk",)}, reasons.append):
        pass
    assert reasons == ["a is left out: no memory"]
    with pytest.raises(ConfigError, match="no memory"), apart({"a": ("no memory",), "b": ()}):
        pass
