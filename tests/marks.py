"""Marks of single parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def slow_where(is_slow: Callable[[Any], bool], values: Iterable[Any]) -> list[Any]:
    """Return parameters, of which the slow ones are marked."""
    return [pytest.param(value, marks=pytest.mark.slow if is_slow(value) else ()) for value in values]
