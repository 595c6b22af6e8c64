"""Every pair, in as many processes as there are cores."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import cv2

from segmnv2.checks.inspection import Reading, inspect_pair
from segmnv2.datasets.listing import Listing
from segmnv2.errors import ConfigError, DatasetError
from segmnv2.signals import sheltered

PAIRS_A_PROCESS = 16
"""Fewer do not pay for starting a process."""

_PIECE = 8

Task = tuple[int, int]


def read_pairs(listings: Sequence[Listing], tasks: Sequence[Task], workers: int | None) -> Iterator[Reading]:
    """Inspect pairs.

    Args:
        listings: the splits.
        tasks: (number of the listing, number of the pair in it).
        workers: processes; ``None`` for one a core. The result does not depend on it.

    Yields:
        What was read, in the order of ``tasks``.

    Raises:
        ConfigError: ``workers`` is below 1.
        DatasetError: a process was killed.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}; give 1 or more")
    processes = min(workers or os.cpu_count() or 1, -(-len(tasks) // PAIRS_A_PROCESS))
    if processes < 2:
        for task in tasks:
            yield inspect_pair(listings[task[0]], task[1])
        return
    # Not forked: OpenCV's and torch's threads would not survive it.
    with sheltered():
        pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start, initargs=(tuple(listings),))
        readings = pool.map(_inspect, tasks, chunksize=_PIECE)
    try:
        yield from readings
    except BrokenProcessPool as error:
        raise DatasetError(
            f"a reading process was killed ({error}), most often for lack of memory; read with fewer, as --workers 1"
        ) from error
    finally:
        for process in list(pool._processes.values()):  # one that is still starting would be waited for
            process.terminate()
        pool.shutdown(cancel_futures=True)


_listings: Sequence[Listing] = ()


def _start(listings: Sequence[Listing]) -> None:
    global _listings
    _listings = listings
    cv2.setNumThreads(1)  # the processes are the parallel part


def _inspect(task: Task) -> Reading:
    return inspect_pair(_listings[task[0]], task[1])
