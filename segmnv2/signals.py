"""Signals that end a command: Ctrl-C, SIGTERM and SIGHUP."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

ENDINGS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals of those who stop a process from outside: ``docker stop``, a scheduler, a terminal that closes."""

INSISTENCE = 1.0
"""Seconds after which an interrupt is repeated that something passed over, as destructors and importers may."""


RETRY = 0.01
"""Seconds after which an interrupt is repeated that came while a lock was taken or released, or a module imported."""

_LOCKING = ("threading", "importlib._bootstrap", "logging", "segmnv2.data.decoders")
_WAITING = ("wait", "join", "_wait_for_tstate_lock")


class SignalInterrupt(KeyboardInterrupt):
    """A signal requests the end."""


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


class _Interrupter:
    """The handler that raises interrupts, and the thread that sends signals again."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.over = False
        self._postponed: list[int] = []
        self._repeated: list[bool] = []
        self._lock = _thread.allocate_lock()
        self._process = os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Raise an interrupt, now or in a moment: this is the signals' handler."""
        if self.over:
            return
        self.received.append(number)
        if os.getpid() != self._process:  # forked from ours, which cares for it
            raise SignalInterrupt
        insisted = number != signal.SIGINT or bool(self._repeated)
        self._repeated.clear()
        if len(self.received) == 1:  # not by `threading`, in whose midst the main thread may be
            _thread.start_new_thread(self._repeat, ())
        if _must_not_break(frame):
            self._postponed[:] = [number]
        elif not (insisted and _unwinding()):
            raise SignalInterrupt

    def _repeat(self) -> None:
        last = time.monotonic()
        while True:
            time.sleep(RETRY)
            with self._lock:
                if self.over:
                    return
                if self._postponed or time.monotonic() > last + INSISTENCE:
                    last = time.monotonic()
                    self._repeated.append(True)
                    _send(self._postponed.pop() if self._postponed else self.received[0])

    def end(self) -> None:
        """Pass over all signals from now on."""
        with self._lock:
            self.over = True


@contextmanager
def interrupting() -> Iterator[list[int]]:
    """Let SIGTERM and SIGHUP raise ``KeyboardInterrupt`` as Ctrl-C does, so that files are cleaned up after each alike.

    While the interrupt unwinds the stack, SIGTERM and SIGHUP are passed over: GNU ``timeout`` sends its signal twice,
    and the second one must not break into the cleanup. A second Ctrl-C may. Where Python code takes or releases a lock,
    the interrupt waits for a moment: the lock would stay taken, and the end of a thread that needs it would be waited
    for without end. It waits, too, where the lines of a module run as it is imported: some of torch's call native code
    that aborts the process at an exception. A signal that the caller ignores, as under ``nohup``, stays ignored.
    Outside the main thread nothing changes.

    Yields:
        The numbers of the signals that came, filled in as they come, repetitions included.
    """
    interrupter = _Interrupter()
    with _handled(interrupter, (signal.SIGINT, *ENDINGS)):
        try:
            yield interrupter.received
        finally:
            interrupter.end()


@contextmanager
def sheltered() -> Iterator[None]:
    """Start processes that do not receive Ctrl-C and SIGHUP, which a terminal sends to all: this process ends them.

    Python's own would each print a traceback. The block must not wait: this thread receives neither signal meanwhile.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    both = {signal.SIGINT, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, both)
    try:
        resource_tracker.ensure_running()  # a process too, whose start unblocks SIGINT
        signal.pthread_sigmask(signal.SIG_BLOCK, both)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def report_end(number: int) -> int:
    """Print the signal that ended the command.

    Returns:
        The exit code that shells have for it.
    """
    name = signal.Signals(number).name
    print("interrupted" if name == "SIGINT" else f"stopped by {name}", file=sys.stderr)
    return 128 + number


def _send(number: int) -> None:
    """Send the main thread a signal, which wakes it where the system can do that."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)
    else:
        _thread.interrupt_main(signal.Signals(number))


def _must_not_break(frame: FrameType | None) -> bool:
    """Whether the main thread takes or releases a lock, but for waiting for another thread, or imports a module."""
    if frame is None:
        return False
    name = frame.f_code.co_name
    return name == "<module>" or (frame.f_globals.get("__name__") in _LOCKING and name not in _WAITING)


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
