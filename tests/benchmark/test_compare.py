from __future__ import annotations

from types import SimpleNamespace

import pytest

from segmnv2.benchmark import compare
from segmnv2.benchmark.compare import Rate, apart, check_count, paired_ratio
from segmnv2.errors import ConfigError


def test_rate_is_images_per_second() -> None:
    rate = Rate.of(4, [2.0, 1.0, 4.0])
    assert rate.values == (2.0, 4.0, 1.0)
    assert rate.median == 2.0
    assert rate.quartiles == (1.5, 3.0)


def test_quartiles_of_one_measurement_equal_its_median() -> None:
    rate = Rate.of(3, [1.5])
    assert rate.quartiles == (rate.median, rate.median) == (2.0, 2.0)


@pytest.mark.parametrize("count", [0, -3])
def test_a_count_below_1_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"steps {count} .*at least 1"):
        check_count("steps", count)


def test_a_ratio_compares_times_of_the_same_round() -> None:
    # In the second round the machine was ten times slower, for both contenders.
    ratio = paired_ratio([2.0, 20.0, 2.0], [1.0, 10.0, 1.0])
    assert (ratio.value, ratio.low, ratio.high) == (2.0, 2.0, 2.0)


def test_the_interval_contains_the_median_and_grows_with_the_variation() -> None:
    narrow = paired_ratio([2.0, 2.1, 1.9, 2.0], [1.0] * 4)
    wide = paired_ratio([1.0, 3.0, 1.5, 2.5], [1.0] * 4)
    for ratio in (narrow, wide):
        assert ratio.low <= ratio.value <= ratio.high
    assert wide.high - wide.low > narrow.high - narrow.low


class Contender:
    """A stand-in for a process that is built, or fails for a reason."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        self.process = SimpleNamespace(kill=lambda: None)

    def wait(self) -> None:
        if self.reason:
            raise ConfigError(self.reason)


@pytest.fixture(autouse=True)
def without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "Apart", Contender)


def test_a_contender_that_cannot_be_built_is_skipped_with_the_reason() -> None:
    reasons: list[str] = []
    with apart({"a": ("no memory",), "b": (), "c": ("no disk",)}, reasons.append) as steps:
        assert list(steps) == ["b"]
    assert reasons == ["a is skipped: no memory", "c is skipped: no disk"]


def test_it_is_an_error_if_no_contender_or_not_every_required_one_is_built() -> None:
    reasons: list[str] = []
    with pytest.raises(ConfigError, match="no disk"), apart({"a": ("no memory",), "b": ("no disk",)}, reasons.append):
        pass
    assert reasons == ["a is skipped: no memory"]
    with pytest.raises(ConfigError, match="no memory"), apart({"a": ("no memory",), "b": ()}):
        pass
