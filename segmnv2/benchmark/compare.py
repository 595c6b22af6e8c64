"""Comparison of several implementations, measured in turns so that other load on the machine slows all equally.

The module has rates, their ratios, and the table of a benchmark. Contenders can have processes of their own; one of
them works while the others wait.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from segmnv2.benchmark.machine import forget_peak_memory, peak_memory, synchronize
from segmnv2.errors import ConfigError, SegmnError
from segmnv2.signals import sheltered


@dataclass(frozen=True)
class Rate:
    """Images per second, above 0, one value per measurement.

    They are summarized by the median, because a short load on the machine changes a mean. The quartiles show how much
    single measurements differ.
    """

    values: tuple[float, ...]

    @classmethod
    def of(cls, images: int, seconds: Sequence[float]) -> Rate:
        """Return the rate of measurements that took ``seconds`` for ``images`` each."""
        return cls(tuple(images / max(second, 1e-9) for second in seconds))

    @property
    def median(self) -> float:
        """Images a second."""
        return float(np.median(self.values))

    @property
    def quartiles(self) -> tuple[float, float]:
        """The 25th and the 75th percentile of the measurements."""
        low, high = np.quantile(self.values, (0.25, 0.75))
        return float(low), float(high)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        low, high = self.quartiles
        return {"images_per_second": self.median, "quartiles": [low, high], "measurements": list(self.values)}


def check_count(name: str, value: int) -> None:
    """Refuse a number of measurements below 1 with a `ConfigError`."""
    if value < 1:
        raise ConfigError(f"{name} {value} measures nothing; give at least 1, better 10 or more")


RESAMPLES = 10_000
"""Of a bootstrap."""


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval, by bootstrap over the measurements."""

    value: float
    low: float
    high: float

    def __format__(self, form: str) -> str:
        """Return the figure and the interval, each in a form as ".2f"."""
        return f"{self.value:{form}} ({self.low:{form}} to {self.high:{form}})"

    def __mul__(self, factor: float) -> Interval:
        """Return the same in another unit."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)


def interleave(
    contenders: Mapping[str, Callable[[int], object]],
    *,
    rounds: int,
    warm_up: int = 2,
    device: torch.device | None = None,
    rest: float = 0.0,
) -> dict[str, list[float]]:
    """Run all contenders one after another in each round, and time every run.

    The order changes from round to round, because the first contender finds other data in the caches than the last.

    Args:
        contenders: functions that are called with the number of the round, from 0, warm-up included.
        rounds: number of measured rounds.
        warm_up: number of rounds before them that are not measured.
        device: the device; times include the work that a GPU has to finish.
        rest: seconds before each turn, in which the threads of the last contender fall asleep.

    Returns:
        Seconds of each round, by name; equal indices belong to the same round.
    """
    device = device or torch.device("cpu")
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(warm_up + rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            synchronize(device)
            time.sleep(rest)
            began = time.perf_counter()
            contenders[name](number)
            synchronize(device)
            seconds[name].append(time.perf_counter() - began)
    return {name: values[warm_up:] for name, values in seconds.items()}


def paired_ratio(slower: Sequence[float], faster: Sequence[float]) -> Interval:
    """Return how many times as fast the second contender is: the median of the ratios of the rounds' seconds."""
    ratios = np.asarray(slower) / np.asarray(faster)
    draws = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    return Interval(float(np.median(ratios)), float(low), float(high))


@dataclass(frozen=True)
class Row:
    """The rate of something that was measured, and a note, such as its share of the whole."""

    name: str
    rate: Rate
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows, a verdict on what limits the speed, and the environment (machine, versions, subject) as JSON values."""

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
        """Return JSON values, every single measurement included."""
        rows = [{"name": row.name, **row.rate.to_dict(), "note": row.note} for row in self.rows]
        return {"rows": rows, "verdict": list(self.verdict), "environment": self.environment}


def describe_memory(peaks: Mapping[str, float | None]) -> dict[str, str | None]:
    """Return the peak memory of contenders' processes as an entry of a table's environment; ``None`` if unknown."""
    held = ", ".join(f"{name} {megabytes:.0f}" for name, megabytes in peaks.items() if megabytes is not None)
    return {"peak memory in MB": held or None}


LOST = (
    "a contender's process was lost; if it printed nothing, most often the memory is full: give fewer contenders or "
    "smaller batches"
)

PATIENCE = 30.0
"""Seconds in which a process must end."""


class Apart:
    """A contender that works in a process of its own.

    ``build(*arguments)`` is called there and returns the step, which takes the number of the round and returns when its
    work is done.
    """

    def __init__(self, build: Callable[..., Callable[[int], object]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, build, arguments), daemon=True)
        with sheltered():
            self.process.start()
        theirs.close()

    def wait(self) -> None:
        """Wait until it is built; raise the `SegmnError` that building it raised."""
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
    """Start a process for each contender, and end the remaining ones at the end of the block.

    Args:
        builds: name -> the arguments of :class:`Apart`.
        on_skip: called with the reason for each contender that cannot be built and is skipped; by default that is an
            error.

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
                on_skip(f"{name} is left out: {error}")
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
