"""Pipelines and streams, which read, compute and write many items at the same time, with few of them in memory.

In a pipeline, threads read and write, because decoders, encoders and models let other threads run at the same time. The
model runs in the thread that requests results, so that Ctrl-C reaches it. At most :func:`most_held` items exist at
once, from the start of reading to the end of writing.

In streams, one thread reads, computes and writes an item. A small model does not keep many cores busy with one image:
its threads wait for each other at every layer, and all wait for one that reads or writes. With one image per thread,
none waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Generic, Protocol, TypeVar, runtime_checkable

import torch

from segmnv2.errors import MediaError, check_positive_integer

Item = TypeVar("Item")
Read = TypeVar("Read")
Made = TypeVar("Made")
Written = TypeVar("Written")

Made_co = TypeVar("Made_co", covariant=True)


@runtime_checkable  # for the checker of annotations in tests
class ManyPredictor(Protocol[Read, Made_co]):
    """Predictor in two steps, so that one image is read while another is computed."""

    def prepare(self, image: Any) -> Read:
        """Read an image, a file or pixels; called in several threads at once."""

    def predict(self, prepared: Sequence[Read]) -> Sequence[Made_co]:
        """Predict for several images, in order."""


END: Final = object()  # marker that a reader returns instead of an item's content, after the last item
READERS = 2  # threads that read files: decoding a phone's image takes longer than the model
WRITERS = 2  # threads that write files, for the same reason


@dataclass(frozen=True)
class Outcome(Generic[Item, Written]):
    """Result of an item: ``result``, or ``failure`` if it could not be read."""

    item: Item
    result: Written | None = None
    failure: MediaError | None = None


def check_batch(batch: object) -> int:
    """Return ``batch`` if it is a positive integer, else raise a ConfigError."""
    return check_positive_integer("batch", batch, "give 1 on a CPU; try 8 on a GPU")


def most_held(batch: int, readers: int = READERS, writers: int = WRITERS) -> int:
    """Return the largest number of items at once: a batch in computation, and about as many in reading and writing."""
    return batch + max(batch, readers) + max(batch, writers)


def run_pipeline(
    items: Iterable[Item],
    read: Callable[[Item], Read],
    compute: Callable[[Sequence[Read]], Sequence[Made]],
    write: Callable[[Item, Made], Written],
    *,
    batch: int = 1,
    readers: int = READERS,
    writers: int = WRITERS,
) -> Generator[Outcome[Item, Written]]:
    """Read, compute and write items, and yield the outcome of each, in their order.

    An error, Ctrl-C or a caller that stops iterating ends it early. Then items that have not begun are dropped, and
    items being read or written are finished before the threads end.

    Args:
        items: taken one by one when needed; they may be endless if ``read`` returns :data:`END`.
        read: called in a reader's thread.
        compute: called in this thread with up to ``batch`` items' contents, in order; one result for each.
        write: called in a writer's thread.
        batch: contents to compute at once.
        readers: threads; 1 if items must be read in order.
        writers: threads; 1 if items must be written in order.

    Raises:
        Exception: any error of the three functions, except a ``MediaError`` of ``read`` or ``compute``, which is the
            item's failure.
    """
    pending: deque[tuple[Item, Future[Written] | MediaError]] = deque()

    def start_writing(computed: list[tuple[Item, Made | MediaError]]) -> None:
        while computed:
            item, made = computed.pop(0)
            pending.append((item, made if isinstance(made, MediaError) else writing.submit(write, item, made)))

    def finished(most: int) -> Iterator[Outcome[Item, Written]]:
        while pending and (len(pending) > most or isinstance(pending[0][1], MediaError) or pending[0][1].done()):
            item, future = pending.popleft()
            if isinstance(future, MediaError):
                yield Outcome(item, failure=future)
            else:
                yield Outcome(item, future.result())

    with (
        closing(_compute_in_order(items, read, compute, batch, readers)) as groups,
        _threads(writers, "write") as writing,
    ):
        for computed in groups:
            start_writing(computed)
            yield from finished(max(batch, writers))
        yield from finished(0)


def predict_in_order(
    items: Iterable[Item],
    read: Callable[[Item], Read],
    compute: Callable[[Sequence[Read]], Sequence[Made]],
    *,
    batch: int = 1,
    readers: int = READERS,
) -> Generator[Made]:
    """Yield the result of each item, in order, as :func:`run_pipeline` does; its error is raised at its turn."""
    with closing(_compute_in_order(items, read, compute, batch, readers)) as groups:
        for computed in groups:
            while computed:
                _, made = computed.pop(0)
                if isinstance(made, MediaError):
                    raise made
                yield made


def _compute_in_order(
    items: Iterable[Item],
    read: Callable[[Item], Read],
    compute: Callable[[Sequence[Read]], Sequence[Made]],
    batch: int,
    readers: int,
) -> Generator[list[tuple[Item, Made | MediaError]]]:
    """Yield batches of results or errors; the caller empties a batch, so that it does not stay in memory."""
    source = iter(items)
    ahead: deque[tuple[Item, Future[Read]]] = deque()

    def draw() -> None:
        for item in islice(source, max(batch, readers) - len(ahead)):
            ahead.append((item, reading.submit(read, item)))

    def compute_next() -> tuple[list[tuple[Item, Made | MediaError]], bool]:
        group, ended = _take(ahead, batch)
        if not ended:
            draw()
        return compute_group(group, compute), ended

    with _threads(readers, "read") as reading:
        draw()
        ended = False
        while ahead and not ended:
            computed, ended = compute_next()
            yield computed


@contextmanager
def _threads(number: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads that ends with the block and drops tasks that have not begun."""
    pool = ThreadPoolExecutor(number, f"segmnv2-{name}")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _take(ahead: deque[tuple[Item, Future[Read]]], batch: int) -> tuple[list[tuple[Item, Read | MediaError]], bool]:
    """Wait for the next items; return their contents or errors, and whether :data:`END` was read."""
    group: list[tuple[Item, Read | MediaError]] = []
    while ahead and len(group) < batch:
        item, future = ahead.popleft()
        try:
            content = future.result()
        except MediaError as error:
            group.append((item, error))
            continue
        if content is END:
            return group, True
        group.append((item, content))
    return group, False


def compute_group(
    group: Sequence[tuple[Item, Read | MediaError]], compute: Callable[[Sequence[Read]], Sequence[Made]]
) -> list[tuple[Item, Made | MediaError]]:
    """Compute the items that could be read; after an error, compute each alone, so that only faulty items fail."""
    contents = [content for _, content in group if not isinstance(content, MediaError)]
    made: Iterator[Made | MediaError] = iter(_compute_each(contents, compute) if contents else [])
    return [(item, content if isinstance(content, MediaError) else next(made)) for item, content in group]


def _compute_each(
    contents: Sequence[Read], compute: Callable[[Sequence[Read]], Sequence[Made]]
) -> list[Made | MediaError]:
    try:
        return list(compute(contents))
    except MediaError as error:
        if len(contents) == 1:
            return [error]
    return [made for content in contents for made in _compute_each([content], compute)]


AHEAD = 2
"""Batches per stream that are in work, or finished and waiting for an older one, so that no thread is idle."""


def run_streams(
    items: Iterable[Item],
    read: Callable[[Item], Read],
    compute: Callable[[Sequence[Read]], Sequence[Made]],
    write: Callable[[Item, Made], Written],
    *,
    streams: int,
    batch: int = 1,
) -> Generator[Outcome[Item, Written]]:
    """Read, compute and write items in several threads, and yield the outcome of each, in their order.

    At most ``streams * batch`` items are in memory, from reading to writing, and the outcomes of :data:`AHEAD` times as
    many plus a batch. An error, Ctrl-C or a caller that stops iterating ends it early. Then items that have not begun
    are dropped, and each thread finishes its current step, so that written files are whole.

    Args:
        items: taken one by one when needed; they may be endless.
        read: called in several threads at once, like ``compute`` and ``write``.
        compute: called with up to ``batch`` items' contents, in order; one result for each.
        write: called for one item after another.
        streams: threads, which share PyTorch's number of threads.
        batch: contents to compute at once.

    Raises:
        Exception: as for :func:`run_pipeline`.
    """
    source = iter(items)
    stopping = threading.Event()
    pending: deque[Future[list[Outcome[Item, Written]]]] = deque()

    def check_stopping() -> None:
        if stopping.is_set():
            raise CancelledError

    def attempt(item: Item) -> Read | MediaError:
        check_stopping()
        try:
            return read(item)
        except MediaError as error:
            return error

    def conclude(item: Item, made: Made | MediaError) -> Outcome[Item, Written]:
        check_stopping()
        return Outcome(item, failure=made) if isinstance(made, MediaError) else Outcome(item, write(item, made))

    def work(group: Sequence[Item]) -> list[Outcome[Item, Written]]:
        contents = [(item, attempt(item)) for item in group]
        check_stopping()
        return [conclude(item, made) for item, made in compute_group(contents, compute)]

    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(streams, "segmnv2-stream", torch.set_num_threads, (max(1, threads // streams),))
    try:
        while True:
            while len(pending) < AHEAD * streams and (group := list(islice(source, batch))):
                pending.append(pool.submit(work, group))
            if not pending:
                return
            yield from pending.popleft().result()
    finally:
        stopping.set()
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)  # for threads that start later; this thread kept its number


def predict_streams(
    items: Iterable[Item],
    read: Callable[[Item], Read],
    compute: Callable[[Sequence[Read]], Sequence[Made]],
    *,
    streams: int,
    batch: int = 1,
) -> Generator[Made]:
    """Yield the result of each item, in order; arguments and errors as for :func:`predict_in_order`."""
    outcomes = run_streams(items, read, compute, lambda _, made: (made,), streams=streams, batch=batch)
    with closing(outcomes):
        for outcome in outcomes:
            if outcome.result is None:
                assert outcome.failure is not None
                raise outcome.failure
            yield from outcome.result
