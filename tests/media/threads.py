"""Helpers for tests of work in several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import ClassVar
from weakref import WeakSet

from segmnv2.errors import ConfigError, MediaError

PATIENCE = 20.0
"""Seconds after which waiting fails."""


class Content:
    """Content of an item; all existing contents are counted."""

    alive: ClassVar[WeakSet[Content]] = WeakSet()

    def __init__(self, item: int) -> None:
        self.item = item
        self.alive.add(self)


def threads_since(before: Collection[threading.Thread]) -> list[threading.Thread]:
    """Return this library's new threads."""
    left = [thread for thread in threading.enumerate() if thread not in before]
    return [thread for thread in left if thread.name.startswith("segmnv2")]


def refuse(*numbers: int) -> Callable[[int], int]:
    def read(item: int) -> int:
        if item in numbers:
            raise MediaError(f"{item} is broken")
        return item

    return read


def note_reading(begun: list[int]) -> Callable[[int], int]:
    """Return a reader that returns the item, and appends it to a list before."""

    def read(item: int) -> int:
        begun.append(item)
        return item

    return read


def fill_the_disk_at(last: int) -> Callable[[int, int], int]:
    """Return a writer that fails at one item."""

    def write(item: int, made: int) -> int:
        if item == last:
            raise ConfigError("disk full")
        return made

    return write
