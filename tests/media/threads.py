"""Helpers for tests of work in several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import ClassVar
from weakref import WeakSet

from segmnv2.errors import MediaError

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
