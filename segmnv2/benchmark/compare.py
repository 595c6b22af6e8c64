"""Rates of several implementations, their ratios, the table of a benchmark, and contenders in their own processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from segmnv2.benchmark.machine import forget_peak_memory, peak_memory
from segmnv2.errors import ConfigError, SegmnError
from segmnv2.signals import sheltered


@dataclass(frozen=True)
class Rate:
    """Images per second, above 0, one value per measurement.

    The median summarizes them, because a short load on the machine changes a mean. The quartiles show how much single
    measurements differ.
    """

    values: tuple[float, ...]

    @classmethod
    def of(cls, images: int, seconds: Sequence[float]) -> Rate:
        """Return the rate of measurements that took ``seconds`` for ``images`` each."""
        return cls(tuple(images / max(second, 1e-9) for second in seconds))

    @property
    def median(self) -> float:
        """Median of the images per second."""
        return float(np.median(self.values))

    @property
    def quartiles(self) -> tuple[float, float]:
        """The 25th and the 75th percentile of the images per second."""
        low, high = np.quantile(self.values, (0.25, 0.75))
        return float(low), float(high)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        low, high = self.quartiles
        return {"images_per_second": self.median, "quartiles": [low, high], "measurements": list(self.values)}


def check_count(name: str, value: int) -> None:
    """Raise a `ConfigError` for a number of measurements below 1."""
    if value < 1:
        raise ConfigError(f"{name} {value} measures nothing; give at least 1, better 10 or more")


RESAMPLES = 10_000
"""Number of samples of a bootstrap."""


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval, by bootstrap over the measurements."""

    value: float
    low: float
    high: float

    def __format__(self, form: str) -> str:
        """Return the value and the interval, each number in a format such as ".2f"."""
        return f"{self.value:{form}} ({self.low:{form}} to {self.high:{form}})"

    def __mul__(self, factor: float) -> Interval:
        """Return the value and the interval, each times a factor."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)


def paired_ratio(slower: Sequence[float], faster: Sequence[float]) -> Interval:
    """Return the median of the rounds' ratios of seconds: the second contender is so many times as fast."""
    ratios = np.asarray(slower) / np.asarray(faster)
    draws = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    return Interval(float(np.median(ratios)), float(low), float(high))


@dataclass(frozen=True)
class Row:
    """The rate of one measured item, and a note, such as its share of the whole."""

    name: str
    rate: Rate
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows, a verdict on the limits of the speed, and the environment (machine, versions, subject) as JSON values."""

    rows: tuple[Row, ...]
    verdict: tuple[str, ...]
    environment: dict[str, Any]

    def __getitem__(self, name: str) -> Row:
        """Return the row of that name."""
        return next(row for row in self.rows if row.name == name)

    def to_markdown(self) -> str:
        """Return the table, then the verdict, then the environment in one line."""
        lines = ["| | images/s | middle half | ms an image | |", "|---|---:|---:|---:|---|"]
        for row in self.rows:
            low, high = row.rate.quartiles
            lines.append(
                f"| {row.name} | {row.rate.median:.4g} | {low:.4g} to {high:.4g} | {1000 / row.rate.median:.4g} "
                f"| {row.note} |"
            )
        machine = ", ".join(f"{key} {value}" for key, value in self.environment.items())
        return "\n".join([*lines, "", *self.verdict, "", f"Measured with: {machine}."])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, which include every measurement."""
        rows = [{"name": row.name, **row.rate.to_dict(), "note": row.note} for row in self.rows]
        return {"rows": rows, "verdict": list(self.verdict), "environment": self.environment}


def describe_memory(peaks: Mapping[str, float | None]) -> dict[str, str | None]:
    """Return the peak memory of contenders' processes as an entry of a table's environment; ``None`` if unknown."""
    held = ", ".join(f"{name} {megabytes:.0f}" for name, megabytes in peaks.items() if megabytes is not None)
    return {"peak memory in MB": held or None}


LOST = (
    "the process of a contender ended unexpectedly; if it printed nothing, the memory was probably full: give fewer "
    "contenders or smaller batches"
)

END_SECONDS = 30.0
"""Time in which a process must end."""


class Apart:
    """A contender that runs in its own process.

    The process calls ``build(*arguments)``, which returns the step. A step takes the number of the round and returns
    when its work is done.
    """

    def __init__(self, build: Callable[..., Callable[[int], object]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, build, arguments), daemon=True)
        with sheltered():
            self.process.start()
        theirs.close()

    def wait(self) -> None:
        """Wait until the contender is built; raise its `SegmnError` if building failed."""
        self._receive()

    def __call__(self, number: int) -> None:
        """Run a step and wait for its end."""
        self.pipe.send(number)
        self._receive()

    def finish(self) -> float | None:
        """End the process, and return its peak memory since it was ready, in MB."""
        self.pipe.send(None)
        memory: float | None = self._receive()
        self.process.join(END_SECONDS)
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
    """Start a process for each contender, and end the remaining ones at the end of the block.

    Args:
        builds: name -> arguments of :class:`Apart`.
        on_skip: called with the reason for each contender that cannot be built and is skipped. By default, such a
            contender is an error.

    Raises:
        SegmnError: a contender cannot be built; with ``on_skip``, none can be built.
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
                on_skip(f"{name} is skipped: {error}")
        yield ready
    finally:
        for contender in started.values():
            contender.process.kill()


def _serve(pipe: Connection, build: Callable[..., Callable[[int], object]], arguments: tuple[Any, ...]) -> None:
    try:
        step = build(*arguments)
        forget_peak_memory(torch.device("cpu"))  # without the memory for preparation, such as calibration
        pipe.send(None)
        while (number := pipe.recv()) is not None:
            step(number)
            pipe.send(None)
        used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        pipe.send(peak_memory(torch.device("cuda" if used else "cpu")))
    except SegmnError as error:
        pipe.send(error)
