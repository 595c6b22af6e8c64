"""Measurement of contenders in turns, on one device, in one process and within a given time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from segmnv2.benchmark.compare import Rate, Row, Table, paired_ratio
from segmnv2.benchmark.machine import MEGABYTE
from segmnv2.engines.pytorch import convolutions
from segmnv2.engines.timing import synchronize, time_in_turns
from segmnv2.errors import SegmnError

Step = Callable[[int], object]

BUILD_SHARE = 0.75
"""Share of the time after which no further contender is built."""

WARM_UP = 3
"""Turns before the measurement, in which code is compiled and cuDNN tries its algorithms."""

FEWEST_ROUNDS = 3


@dataclass(frozen=True)
class Contender:
    """An implementation that is compared with others.

    Attributes:
        build: loads everything into memory and returns the step, which takes the number of its turn.
        peer: whether it is from another library.
        refusal: the reason why it cannot be measured here; ``None`` if it can.
        convolutions: setting of float32 convolutions; PyTorch's default if ``None``.
    """

    build: Callable[[], Step]
    peer: bool = False
    refusal: str | None = None
    convolutions: Literal["ieee"] | None = None


@dataclass(frozen=True)
class Limits:
    """Limits of one table.

    Attributes:
        rounds: largest number of turns of each contender.
        seconds: time for all of them, including building and compilation.
    """

    rounds: int
    seconds: float


def take_turns(
    contenders: Mapping[str, Contender],
    limits: Limits,
    *,
    device: torch.device,
    images: int,
    notes: Sequence[str] = (),
    environment: Mapping[str, Any],
) -> Table:
    """Measure contenders; the table lists the contenders that were not measured, with the reason.

    Args:
        contenders: contenders by name; all are compared with the first peer.
        limits: limits of the table.
        device: the device; times include its work.
        images: number of images per turn.
        notes: sentences below the table.
        environment: description of what was measured.
    """
    began = time.monotonic()
    steps: dict[str, Step] = {}
    memory: dict[str, float] = {}
    skipped = []
    for name, contender in contenders.items():
        reason = contender.refusal
        if reason is None and steps and time.monotonic() - began > BUILD_SHARE * limits.seconds:
            reason = f"the time of {limits.seconds:.0f} s is used up"
        if reason is None:
            try:
                steps[name], memory[name] = _prepare(contender, device)
            except (SegmnError, RuntimeError) as error:
                reason = str(error).partition("\n")[0]
        if reason is not None:
            skipped.append(f"Not measured: {name}: {reason}.")
    one_round = time_in_turns(steps, rounds=1, warm_up=0, device=device)
    remaining = limits.seconds - (time.monotonic() - began)
    rounds = max(FEWEST_ROUNDS, int(remaining / sum(second for (second,) in one_round.values())))
    seconds = time_in_turns(steps, rounds=min(rounds, limits.rounds), warm_up=0, device=device)
    peers = [name for name in seconds if contenders[name].peer]
    rows = [Row(name, Rate.of(images, values), _note(name, seconds, peers, memory)) for name, values in seconds.items()]
    return Table(tuple(rows), (*notes, *skipped), dict(environment))


def _prepare(contender: Contender, device: torch.device) -> tuple[Step, float]:
    """Return a contender's step after its warm-up, and its peak GPU memory in megabytes."""
    before = 0.0
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    step = contender.build()

    def run(number: int) -> object:
        with convolutions(contender.convolutions, tuned=True):
            return step(number)

    for number in range(WARM_UP):
        run(number)
    synchronize(device)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0.0
    return run, (peak - before) / MEGABYTE


def _note(name: str, seconds: Mapping[str, Sequence[float]], peers: Sequence[str], memory: Mapping[str, float]) -> str:
    ratio = [f"{paired_ratio(seconds[peers[0]], seconds[name]):.2f} times as fast as {peers[0]}"] if peers else []
    peak = [f"peak {memory[name]:.0f} MB"] if memory[name] else []
    return "; ".join([*(ratio if name not in peers[:1] else []), *peak])
