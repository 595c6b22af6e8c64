from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import pytest

from segmnv2.errors import ConfigError, MediaError
from segmnv2.media.pipeline import END, check_batch, most_held, predict_in_order, run_pipeline
from tests.media.threads import PATIENCE, Content, fill_the_disk_at, note_reading, refuse, threads_since


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert not threads_since(before)


def square(numbers: Sequence[int]) -> list[int]:
    return [number * number for number in numbers]


def note(item: int, made: int) -> tuple[int, int]:
    return item, made


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("items", [0, 1, 4, 23])
def test_outcomes_come_in_order_with_any_slow_item(batch: int, threads: int, items: int) -> None:
    def read(item: int) -> int:
        threading.Event().wait(0.003 * (item % 3 == 0))
        return item

    def write(item: int, made: int) -> tuple[int, int]:
        threading.Event().wait(0.003 * (item % 3 == 1))
        return item, made

    outcomes = list(run_pipeline(range(items), read, square, write, batch=batch, readers=threads, writers=threads))
    assert [outcome.item for outcome in outcomes] == list(range(items))
    assert [outcome.result for outcome in outcomes] == [(item, item * item) for item in range(items)]


@pytest.mark.parametrize(("batch", "readers", "writers"), [(1, 1, 1), (1, 2, 2), (4, 2, 2), (2, 3, 1)])
def test_no_more_items_are_held_than_promised(batch: int, readers: int, writers: int) -> None:
    most = 0
    lock = threading.Lock()
    slow = threading.Event()

    def read(item: int) -> Content:
        nonlocal most
        with lock:
            content = Content(item)
            most = max(most, len(Content.alive))
        slow.wait(0.001)
        return content

    def write(item: int, made: Content) -> int:
        slow.wait(0.004)
        return made.item

    gc.collect()
    for number, outcome in enumerate(
        run_pipeline(range(60), read, list, write, batch=batch, readers=readers, writers=writers)
    ):
        assert outcome.result == number
    assert 1 < most <= most_held(batch, readers, writers)
    gc.collect()
    assert not Content.alive


def test_items_are_read_computed_and_written_at_the_same_time() -> None:
    read_events, computed = [threading.Event() for _ in range(3)], [threading.Event() for _ in range(3)]

    def read(item: int) -> int:
        read_events[item].set()
        return item

    def compute(items: Sequence[int]) -> Sequence[int]:
        (item,) = items
        assert read_events[min(item + 1, 2)].wait(PATIENCE), "nothing is read while computing"
        computed[item].set()
        return items

    def write(item: int, made: int) -> int:
        assert computed[min(item + 1, 2)].wait(PATIENCE), "nothing is computed while writing"
        return made

    assert [outcome.result for outcome in run_pipeline(range(3), read, compute, write, readers=1, writers=1)] == [
        0,
        1,
        2,
    ]


@pytest.mark.parametrize("batch", [1, 3])
def test_an_unreadable_item_is_reported_in_order_and_the_others_continue(batch: int) -> None:
    outcomes = list(run_pipeline(range(8), refuse(0, 3, 4, 7), square, note, batch=batch))
    assert [outcome.item for outcome in outcomes if outcome.failure] == [0, 3, 4, 7]
    assert str(outcomes[3].failure) == "3 is broken"
    assert [outcome.result for outcome in outcomes if not outcome.failure] == [(1, 1), (2, 4), (5, 25), (6, 36)]


def test_only_the_faulty_item_of_a_batch_fails() -> None:
    def compute(numbers: Sequence[int]) -> list[int]:
        if 2 in numbers:
            raise MediaError("too large")
        return list(numbers)

    outcomes = list(run_pipeline(range(5), int, compute, note, batch=3))
    assert [outcome.item for outcome in outcomes if outcome.failure] == [2]
    assert [outcome.result for outcome in outcomes if outcome.result] == [(n, n) for n in (0, 1, 3, 4)]


def test_an_error_in_writing_stops_the_run_at_once() -> None:
    begun: list[int] = []
    outcomes = run_pipeline(count(), note_reading(begun), list, fill_the_disk_at(3))
    with pytest.raises(ConfigError, match="disk full"):
        list(outcomes)
    assert len(begun) <= 4 + most_held(1)


def test_other_errors_are_raised() -> None:
    def fail(item: int) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(run_pipeline(range(3), fail, list, note))


def test_a_caller_that_stops_leaves_no_thread() -> None:
    written: list[int] = []
    outcomes = run_pipeline(count(), int, list, lambda item, made: written.append(item))
    assert next(outcomes).item == 0
    outcomes.close()
    assert len(written) <= 1 + most_held(1)


def test_an_interrupt_leaves_only_whole_files() -> None:
    begun: list[int] = []
    ended: list[int] = []

    def compute(items: Sequence[int]) -> Sequence[int]:
        if items[0] == 4:
            signal.raise_signal(signal.SIGINT)
        return items

    def write(item: int, made: int) -> None:
        begun.append(item)
        threading.Event().wait(0.01)
        ended.append(item)

    with pytest.raises(KeyboardInterrupt):
        list(run_pipeline(count(), int, compute, write))
    assert begun
    assert sorted(begun) == sorted(ended)
    assert max(begun) < 4


def test_items_may_be_endless_if_the_reader_returns_the_end() -> None:
    numbers = iter(range(5))

    def read(_: int) -> Any:
        return next(numbers, END)

    outcomes = run_pipeline(count(), read, square, note, batch=2, readers=1)
    assert [outcome.result for outcome in outcomes] == [(n, n * n) for n in range(5)]


def test_predictions_come_in_order_and_an_error_at_its_turn() -> None:
    assert list(predict_in_order(range(7), int, square, batch=3)) == square(range(7))
    found = predict_in_order(range(7), refuse(2), square, batch=4)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(MediaError, match="2 is broken"):
        next(found)
    assert list(found) == []


def test_a_prediction_is_yielded_before_the_next_one_is_requested() -> None:
    computed: list[int] = []

    def compute(numbers: Sequence[int]) -> Sequence[int]:
        computed.extend(numbers)
        return numbers

    found = predict_in_order(count(), int, compute)
    assert [next(found) for _ in range(3)] == [0, 1, 2] == computed
    found.close()


@pytest.mark.parametrize("batch", [0, -1, 1.5, True, "2"])
def test_a_batch_must_be_a_positive_integer(batch: object) -> None:
    with pytest.raises(ConfigError, match="batch"):
        check_batch(batch)
    assert check_batch(3) == 3
