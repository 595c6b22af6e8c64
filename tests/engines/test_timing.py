from __future__ import annotations

from segmnv2.engines.timing import time_in_turns


def test_all_contenders_run_in_every_round_and_the_first_one_changes() -> None:
    calls: list[tuple[str, int]] = []
    contenders = {name: (lambda number, name=name: calls.append((name, number))) for name in "abc"}
    seconds = time_in_turns(contenders, rounds=2, warm_up=1)
    assert [name for name, _ in calls] == list("abcbcacab")
    assert [number for _, number in calls] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_no_round_starts_after_enough_seconds() -> None:
    now = 0.0

    def run(number: int) -> None:
        nonlocal now
        now += 1.0 + number

    seconds = time_in_turns({"a": run}, rounds=9, warm_up=1, enough=4.0, clock=lambda: now)
    assert seconds == {"a": [2.0, 3.0]}
