from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from segmnv2.signals import ENDINGS, held, interrupting

ALL = (signal.SIGINT, *ENDINGS)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ALL}
    yield
    after = {number: signal.getsignal(number) for number in ALL}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before


@pytest.mark.parametrize("number", ALL)
def test_each_signal_interrupts_as_ctrl_c_does(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), interrupting() as received:
        signal.raise_signal(number)
    assert received == [number]


def test_a_signal_sent_twice_does_not_break_into_the_cleanup_of_the_first() -> None:
    cleaned: list[bool] = []

    def work() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt), interrupting():
        work()
    assert cleaned


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupting() as received, held() as signals:
            signals.install()
            signal.raise_signal(signal.SIGHUP)
        assert received == signals.received == []
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", ENDINGS)
def test_a_held_signal_comes_after_the_block(number: int) -> None:
    passed: list[list[int]] = []

    def work() -> None:
        with held() as signals:
            signal.raise_signal(number)
            passed.append(signals.received)
        raise AssertionError("the signal was lost")

    with pytest.raises(KeyboardInterrupt), interrupting() as received:
        work()
    assert passed == [[number]]
    assert received == [number]


def test_an_error_in_the_block_is_what_is_reported() -> None:
    def work() -> None:
        with held():
            signal.raise_signal(signal.SIGTERM)
            raise ValueError("own")

    with pytest.raises(ValueError, match="own"), interrupting():
        work()


def test_other_threads_leave_signals_alone() -> None:
    seen: list[object] = []

    def work() -> None:
        with interrupting(), held():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
