from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest

from segmnv2 import __main__, signals
from segmnv2.signals import ENDINGS, held, interrupting, sheltered

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


@pytest.mark.parametrize("number", ALL)
@pytest.mark.parametrize("raised", [KeyboardInterrupt, ImportError])
def test_a_signal_ends_the_import_of_the_command_with_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    raised: type[BaseException],
) -> None:
    class Imported:
        @property
        def main(self) -> None:
            try:
                signal.raise_signal(number)
            except KeyboardInterrupt:
                raise raised from None

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setitem(sys.modules, "segmnv2.cli", Imported())
    assert __main__.main() == 128 + number
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    signal.signal(signal.SIGINT, before)


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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("swallow", ["destructor", "handler"])
def test_an_interrupt_that_something_passes_over_comes_again(
    monkeypatch: pytest.MonkeyPatch, swallow: str, number: int
) -> None:
    monkeypatch.setattr(signals, "INSISTENCE", 0.02)

    class Destroyed:
        def __del__(self) -> None:
            signal.raise_signal(number)

    def work() -> None:
        if swallow == "destructor":
            Destroyed()
        else:
            with suppress(BaseException):
                signal.raise_signal(number)
        time.sleep(10)
        raise AssertionError("the signal was lost")

    with pytest.raises(KeyboardInterrupt), interrupting():
        work()


@pytest.mark.parametrize("number", ALL)
def test_an_interrupt_leaves_no_lock_taken(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    scope = {**vars(threading), "interrupt": partial(signal.raise_signal, number)}
    exec("def enter(self):\n    taken = self._lock.__enter__()\n    interrupt()\n    return taken", scope)
    monkeypatch.setattr(threading.Condition, "__enter__", scope["enter"])
    condition = threading.Condition(threading.Lock())

    def work() -> None:
        with condition:
            monkeypatch.undo()
        time.sleep(10)
        raise AssertionError("the signal was lost")

    with pytest.raises(KeyboardInterrupt), interrupting():
        work()
    assert condition.acquire(blocking=False)


def test_an_interrupt_does_not_break_into_native_code_that_a_module_calls() -> None:
    """``torch.distributed`` calls C++ that aborts the process at any exception."""
    prepared: list[bool] = []
    lines = compile("interrupt()\nprepared.append(True)", "module", "exec")

    def work() -> None:
        exec(lines, {"interrupt": partial(signal.raise_signal, signal.SIGTERM), "prepared": prepared})
        time.sleep(10)
        raise AssertionError("the signal was lost")

    with pytest.raises(KeyboardInterrupt), interrupting():
        work()
    assert prepared


def test_a_signal_comes_while_a_thread_is_begun() -> None:
    with threading._active_limbo_lock, pytest.raises(KeyboardInterrupt), interrupting():  # type: ignore[attr-defined]
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_repetition_does_not_break_into_the_cleanup(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(signals, "INSISTENCE", 0.01)
    cleaned: list[bool] = []

    def work() -> None:
        try:
            signal.raise_signal(number)
        finally:
            with suppress(ValueError):
                time.sleep(0.05)
                raise ValueError
            time.sleep(0.05)
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt), interrupting() as received:
        work()
    assert cleaned
    assert len(received) > 1


def test_a_second_ctrl_c_breaks_into_the_cleanup() -> None:
    def work() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), interrupting():
        work()


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupting() as received, held() as waiting:
            waiting.install()
            signal.raise_signal(signal.SIGHUP)
        assert received == waiting.received == []
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", ENDINGS)
def test_a_held_signal_comes_after_the_block(number: int) -> None:
    passed: list[list[int]] = []

    def work() -> None:
        with held() as waiting:
            signal.raise_signal(number)
            passed.append(waiting.received)
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


def test_a_sheltered_process_does_not_receive_what_a_terminal_sends() -> None:
    masked = "import signal; print(*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    with sheltered():
        process = subprocess.Popen([sys.executable, "-c", masked], stdout=subprocess.PIPE, text=True)
    assert set(process.communicate()[0].split()) == {str(int(number)) for number in (signal.SIGINT, signal.SIGHUP)}
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


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
