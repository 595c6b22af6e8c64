"""Signals that end a command: Ctrl-C, SIGTERM and SIGHUP."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

ENDINGS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals of those who stop a process from outside: ``docker stop``, a scheduler, a terminal that closes."""

REPEATED = 5.0
"""Seconds in which a second SIGTERM or SIGHUP is taken for the first one again, as GNU ``timeout`` sends it twice."""


class Held:
    """Signals that wait for the end of a block.

    Attributes:
        received: their numbers.
    """

    def __init__(self) -> None:
        self.received: list[int] = []

    def __call__(self, number: int, _frame: Any) -> None:
        """Note a signal: this is its handler."""
        self.received.append(number)

    def install(self) -> None:
        """Become the handler again, after a library set its own."""
        if threading.current_thread() is threading.main_thread():
            for number in _heeded(ENDINGS):
                signal.signal(number, self)


@contextmanager
def interrupting() -> Iterator[list[int]]:
    """Let SIGTERM and SIGHUP raise ``KeyboardInterrupt`` as Ctrl-C does, so that files are cleaned up after each alike.

    A signal that the caller ignores, as under ``nohup``, stays ignored. Outside the main thread nothing changes.

    Yields:
        The numbers of the signals that came, filled in as they come.
    """
    received: list[int] = []
    first = 0.0

    def interrupt(number: int, _frame: Any) -> None:
        nonlocal first
        repeated = bool(received) and number != signal.SIGINT and time.monotonic() - first < REPEATED
        first = first or time.monotonic()
        received.append(number)
        if not repeated:
            raise KeyboardInterrupt

    with _handled(interrupt, (signal.SIGINT, *ENDINGS)):
        yield received


@contextmanager
def held() -> Iterator[Held]:
    """Hold SIGTERM and SIGHUP back while the block runs, and deliver one that came when it ends without an error."""
    signals = Held()
    with _handled(signals, ENDINGS):
        yield signals
    if signals.received:
        signal.raise_signal(signals.received[0])


@contextmanager
def _handled(handler: Callable[[int, Any], None], numbers: Sequence[int]) -> Iterator[None]:
    """Give signals a handler while the block runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _heeded(numbers)}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _heeded(numbers: Sequence[int]) -> list[int]:
    """Return the signals that are not ignored, and whose handler Python knows."""
    return [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]
