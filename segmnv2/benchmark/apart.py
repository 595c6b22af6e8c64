"""Contenders in processes of their own, of which one works while the others wait."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import torch

from segmnv2.benchmark.machine import forget_peak_memory, peak_memory
from segmnv2.errors import SegmnError
from segmnv2.signals import sheltered

LOST = (
    "a contender's process was lost; if it printed nothing, most often the memory is full: give fewer contenders or "
    "smaller batches"
)

PATIENCE = 30.0
"""Seconds that a process has to end."""


class Apart:
    """A contender that is built and works in a process of its own.

    Args:
        build: called there; returns its step, which takes the number of the round and returns when all is done.
        arguments: of ``build``.
    """

    def __init__(self, build: Callable[..., Callable[[int], object]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, build, arguments), daemon=True)
        with sheltered():
            self.process.start()
        theirs.close()

    def wait(self) -> None:
        """Wait until it is built.

        Raises:
            SegmnError: as building it did.
        """
        self._receive()

    def __call__(self, number: int) -> None:
        """Do a step and wait for its end."""
        self.pipe.send(number)
        self._receive()

    def finish(self) -> float | None:
        """End the process, and return the most memory that it held since it was ready, in MB."""
        self.pipe.send(None)
        memory: float | None = self._receive()
        self.process.join(PATIENCE)
        return memory

    def _receive(self) -> Any:
        try:
            answer = self.pipe.recv()
        except EOFError:
            raise SegmnError(LOST) from None
        if isinstance(answer, SegmnError):
            raise answer
        return answer


@contextmanager
def apart(
    builds: Mapping[str, tuple[Any, ...]], on_skip: Callable[[str], None] | None = None
) -> Iterator[dict[str, Apart]]:
    """Start a process for each contender, and end those that are left when the block does.

    Args:
        builds: for each name what :class:`Apart` takes.
        on_skip: called with the reason for each that cannot be built, which is left out; by default it is an error.

    Raises:
        SegmnError: one cannot be built, or with ``on_skip`` none.
    """
    started: dict[str, Apart] = {}
    try:
        for name, arguments in builds.items():
            started[name] = Apart(*arguments)
        ready: dict[str, Apart] = {}
        for place, (name, contender) in enumerate(started.items(), 1):
            try:
                contender.wait()
                ready[name] = contender
            except SegmnError as error:
                if on_skip is None or (place == len(started) and not ready):
                    raise
                on_skip(f"{name} is left out: {error}")
        yield ready
    finally:
        for contender in started.values():
            contender.process.kill()


def _serve(pipe: Connection, build: Callable[..., Callable[[int], object]], arguments: tuple[Any, ...]) -> None:
    try:
        step = build(*arguments)
        forget_peak_memory(torch.device("cpu"))  # what was needed to get ready, as for calibration
        pipe.send(None)
        while (number := pipe.recv()) is not None:
            step(number)
            pipe.send(None)
        used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        pipe.send(peak_memory(torch.device("cuda" if used else "cpu")))
    except SegmnError as error:
        pipe.send(error)
