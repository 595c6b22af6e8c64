"""Signals that stop a command: Ctrl-C, SIGTERM and SIGHUP."""

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
"""Signals from other programs that stop a process: ``docker stop``, a scheduler, or a terminal that closes."""

INSISTENCE = 1.0
"""Seconds after which an interrupt is repeated, because destructors and importers may have ignored it."""

RETRY = 0.01
"""Seconds after which an interrupt that must wait for a lock or an import is sent again."""

_LOCKING = ("threading", "importlib._bootstrap", "logging", "segmnv2.data.decoders")
_WAITING = ("wait", "join", "_wait_for_tstate_lock")


class SignalInterrupt(KeyboardInterrupt):
    """Interrupt by a signal."""


class Held:
    """Handler of signals that wait for the end of a block.

    Attributes:
        received: numbers of the signals.
    """

    def __init__(self) -> None:
        self.received: list[int] = []

    def __call__(self, number: int, _frame: Any) -> None:
        """Store the number of a received signal."""
        self.received.append(number)

    def install(self) -> None:
        """Install this handler again after a library has set another one."""
        if threading.current_thread() is threading.main_thread():
            for number in _handleable(ENDINGS):
                signal.signal(number, self)


class _Interrupter:
    """Handler that raises interrupts, with a thread that sends signals again."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.over = False
        self._postponed: list[int] = []
        self._repeated: list[bool] = []
        self._lock = _thread.allocate_lock()
        self._process = os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Raise an interrupt, now or a little later."""
        if self.over:
            return
        self.received.append(number)
        if os.getpid() != self._process:  # a forked process has no such thread
            raise SignalInterrupt
        may_be_ignored = number != signal.SIGINT or bool(self._repeated)
        self._repeated.clear()
        if len(self.received) == 1:  # not through `threading`, which the main thread may be running
            _thread.start_new_thread(self._repeat, ())
        if _must_not_break(frame):
            self._postponed[:] = [number]
        elif not (may_be_ignored and _unwinding()):
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
        """Ignore all signals from now on."""
        with self._lock:
            self.over = True


@contextmanager
def interrupting() -> Iterator[list[int]]:
    """Let SIGTERM and SIGHUP raise ``KeyboardInterrupt`` as Ctrl-C does, so that each leads to the same cleanup.

    During the cleanup, SIGTERM and SIGHUP are ignored, because GNU ``timeout`` sends its signal twice. A second Ctrl-C
    interrupts the cleanup.

    The interrupt waits for a moment in two cases:

    - Python code acquires or releases a lock. An interrupted lock could stay locked and block other threads forever.
    - A module is imported. Some modules of torch call native code that aborts the process at an exception.

    A signal that the caller ignores, such as under ``nohup``, stays ignored. Outside the main thread, nothing changes.

    Yields:
        A list of the numbers of received signals, including repetitions, which grows as they arrive.
    """
    interrupter = _Interrupter()
    with _handled(interrupter, (signal.SIGINT, *ENDINGS)):
        try:
            yield interrupter.received
        finally:
            interrupter.end()


@contextmanager
def sheltered() -> Iterator[None]:
    """Let the block start processes that ignore Ctrl-C and SIGHUP, which a terminal sends to all processes.

    Otherwise each process would print a traceback. This process must stop them. The block must be short, because this
    thread does not receive the two signals meanwhile.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    both = {signal.SIGINT, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, both)
    try:
        resource_tracker.ensure_running()  # starts a process too, which unblocks SIGINT here
        signal.pthread_sigmask(signal.SIG_BLOCK, both)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def report_end(number: int) -> int:
    """Print the signal that stopped the command, and return the exit code, the same as in shells."""
    name = signal.Signals(number).name
    print("interrupted" if name == "SIGINT" else f"stopped by {name}", file=sys.stderr)
    return 128 + number


def _send(number: int) -> None:
    """Send a signal to the main thread, which wakes it if the system supports that."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)
    else:
        _thread.interrupt_main(signal.Signals(number))


def _must_not_break(frame: FrameType | None) -> bool:
    """Return whether the main thread imports a module, or acquires or releases a lock, except to wait for a thread."""
    if frame is None:
        return False
    name = frame.f_code.co_name
    return name == "<module>" or (frame.f_globals.get("__name__") in _LOCKING and name not in _WAITING)


def _unwinding() -> bool:
    """Return whether the calling thread is in an ``except`` or ``finally`` because of an interrupt."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


@contextmanager
def held() -> Iterator[Held]:
    """Delay SIGTERM and SIGHUP while the block runs, and raise the first one again if it ends without an error."""
    signals = Held()
    with _handled(signals, ENDINGS):
        yield signals
    if signals.received:
        signal.raise_signal(signals.received[0])


@contextmanager
def _handled(handler: Callable[[int, Any], None], numbers: Sequence[int]) -> Iterator[None]:
    """Install a handler of signals while the block runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _handleable(numbers)}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _handleable(numbers: Sequence[int]) -> list[int]:
    """Return the signals that are not ignored and whose handler Python can restore."""
    return [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]
