"""Signals that end a command: Ctrl-C, SIGTERM and SIGHUP."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

ENDINGS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals of those who stop a process from outside: ``docker stop``, a scheduler, a terminal that closes."""

INSISTENCE = 1.0
"""Seconds after which an interrupt is repeated that something passed over, as destructors and importers may."""


class SignalInterrupt(KeyboardInterrupt):
    """A signal asks for the end."""


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

    While the interrupt unwinds the stack, SIGTERM and SIGHUP are passed over: GNU ``timeout`` sends its signal twice,
    and the second one must not break into the cleanup. A signal that the caller ignores, as under ``nohup``, stays
    ignored. Outside the main thread nothing changes.

    Yields:
        The numbers of the signals that came, filled in as they come.
    """
    received: list[int] = []
    over = threading.Event()
    watchers: list[threading.Thread] = []

    def interrupt(number: int, _frame: Any) -> None:
        if over.is_set():
            return
        received.append(number)
        if number != signal.SIGINT and not watchers and hasattr(signal, "pthread_kill"):
            watchers.append(threading.Thread(target=_insist, args=(number, over), daemon=True))
            watchers[0].start()
        if number == signal.SIGINT or not _unwinding():
            raise SignalInterrupt

    with _handled(interrupt, (signal.SIGINT, *ENDINGS)):
        try:
            yield received
        finally:
            over.set()
            for watcher in watchers:
                watcher.join()


def _insist(number: int, over: threading.Event) -> None:
    """Send the main thread a signal again and again until a block is over."""
    main = threading.main_thread().ident
    while main is not None and not over.wait(INSISTENCE):
        signal.pthread_kill(main, number)


def _unwinding() -> bool:
    """Whether an interrupt is on its way up: the calling thread is in an ``except`` or ``finally`` because of it."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


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
