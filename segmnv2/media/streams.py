"""Several images at once, each from its file to its results in a thread of its own.

A small network does not keep many cores busy with one image: its threads wait for each other at every layer, and any
that reads or writes meanwhile keeps all of them waiting. Here one image is one thread's, so nothing waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import TypeVar

import torch

from segmnv2.errors import MediaError
from segmnv2.media.pipeline import Outcome, compute_group

Item = TypeVar("Item")
Read = TypeVar("Read")
Made = TypeVar("Made")
Written = TypeVar("Written")

AHEAD = 2
"""Batches for each stream that are begun, or done and waiting for an older one, so that no thread is idle meanwhile."""


def run_streams(
    items: Iterable[Item],
    read: Callable[[Item], Read],
    compute: Callable[[Sequence[Read]], Sequence[Made]],
    write: Callable[[Item, Made], Written],
    *,
    streams: int,
    batch: int = 1,
) -> Generator[Outcome[Item, Written]]:
    """Read, compute and write items in several threads, and yield what became of each, in their order.

    At most ``streams * batch`` items are in memory between being read and being written, and what ``write`` returned of
    :data:`AHEAD` times as many and a batch. However it ends, by an error, Ctrl-C or a caller who stops asking, what is
    not begun is dropped, and each thread ends after the step that it is in, so that what is written is whole.

    Args:
        items: drawn one by one, as there is room; they may be endless.
        read: called in several threads at once, and so are the others.
        compute: called with up to ``batch`` items' contents, in order; one result for each.
        write: called for one item after another.
        streams: threads. They share PyTorch's number of threads among them.
        batch: contents to compute at once.

    Raises:
        Exception: what any of the three raises, but for a ``MediaError`` of ``read`` or ``compute``, which is the
            item's failure.
    """
    source = iter(items)
    stopping = threading.Event()
    behind: deque[Future[list[Outcome[Item, Written]]]] = deque()

    def go_on() -> None:
        if stopping.is_set():
            raise CancelledError

    def work(group: Sequence[Item]) -> list[Outcome[Item, Written]]:
        contents = []
        for item in group:
            go_on()
            contents.append((item, _attempt(read, item)))
        go_on()
        outcomes: list[Outcome[Item, Written]] = []
        for item, made in compute_group(contents, compute):
            go_on()
            if isinstance(made, MediaError):
                outcomes.append(Outcome(item, failure=made))
            else:
                outcomes.append(Outcome(item, write(item, made)))
        return outcomes

    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(streams, "segmnv2-stream", torch.set_num_threads, (max(1, threads // streams),))
    try:
        while True:
            while len(behind) < AHEAD * streams and (group := list(islice(source, batch))):
                behind.append(pool.submit(work, group))
            if not behind:
                return
            yield from behind.popleft().result()
    finally:
        stopping.set()
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)  # this thread kept its number; threads that begin later get it again


def predict_streams(
    items: Iterable[Item],
    read: Callable[[Item], Read],
    compute: Callable[[Sequence[Read]], Sequence[Made]],
    *,
    streams: int,
    batch: int = 1,
) -> Generator[Made]:
    """Yield what is computed of each item, in order; arguments as for :func:`run_streams`.

    Raises:
        Exception: what any of the two raises, at the item's turn.
    """
    outcomes = run_streams(items, read, compute, lambda _, made: (made,), streams=streams, batch=batch)
    with closing(outcomes):
        for outcome in outcomes:
            if outcome.result is None:
                assert outcome.failure is not None
                raise outcome.failure
            yield from outcome.result


def _attempt(read: Callable[[Item], Read], item: Item) -> Read | MediaError:
    try:
        return read(item)
    except MediaError as error:
        return error
