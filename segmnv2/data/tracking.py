"""Reports of the progress of work on bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Track = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Takes a title and the total of bytes; its context yields a function to call with each number of bytes done.

The number is negative where work restarts.
"""


@contextmanager
def untracked(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Report nothing: the :data:`Track` of those who give none."""
    yield lambda done: None
