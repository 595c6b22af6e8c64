"""Times of several implementations that run in turns, so that other load on the machine slows all equally."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished its work; otherwise only the launch of the work would be timed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_in_turns(
    contenders: Mapping[str, Callable[[int], object]],
    *,
    rounds: int,
    warm_up: int = 2,
    device: torch.device | None = None,
    rest: float = 0.0,
    enough: float = math.inf,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Run all contenders one after another in each round, and time every run.

    The order changes from round to round, because the first contender finds other data in the caches than the last.

    Args:
        contenders: functions that are called with the number of the round, from 0, warm-up included.
        rounds: largest number of measured rounds.
        warm_up: number of rounds before them that are not measured.
        device: device of the work; on a GPU, times end when its work is finished.
        rest: seconds of pause before each run, so that threads of the previous contender become idle.
        enough: total seconds of measured runs after which no new round starts.
        clock: returns the time in seconds.

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
            start = clock()
            contenders[name](number)
            synchronize(device)
            seconds[name].append(clock() - start)
        if number >= warm_up and sum(sum(values[warm_up:]) for values in seconds.values()) >= enough:
            break
    return {name: values[warm_up:] for name, values in seconds.items()}
