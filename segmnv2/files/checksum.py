"""Checksums of files, and reports of the progress of work on bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

CHUNK = 1 << 20

Track = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Takes a title and the total of bytes; its context yields a function to call with each number of bytes done.

The number is negative where work restarts.
"""


@contextmanager
def untracked(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Report nothing: the :data:`Track` of those who give none."""
    yield lambda done: None


def file_sha256(path: Path) -> str:
    """Return a file's SHA-256, hexadecimal."""
    return file_checksum(path, "sha256")


def file_checksum(path: Path, algorithm: str, track: Track = untracked, *, name: str | None = None) -> str:
    """Return a file's checksum, hexadecimal; the progress bar says ``name``, or the file's own."""
    digest = hashlib.new(algorithm)
    with path.open("rb") as file, track(f"check {name or path.name}", path.stat().st_size) as advance:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()
