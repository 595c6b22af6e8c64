"""Engines of one network with several numbers of streams, converted once, which is what takes the time."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from segmnv2.engines.backend import Backend
from segmnv2.engines.selection import ENGINES, create_backend
from segmnv2.models.segmenter import Segmenter

STREAMING = [name for name, engine in ENGINES.items() if engine.streams]


def build_engines(model: Segmenter, name: str, streams: Sequence[int]) -> list[Backend]:
    """Return an engine for each number of streams, each with one thread."""
    converted = create_backend(model, name, threads=1)
    found = []
    for number in streams:
        engine = copy.copy(converted)
        engine.threads = engine.streams = number
        engine.open()
        found.append(engine)
    return found
