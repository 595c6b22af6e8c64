"""Checksums of files, reports of the progress of work on bytes, and listings of folders."""

from __future__ import annotations

import hashlib
import os
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


_SYSTEM_FILES = ("Thumbs.db", "desktop.ini")


def list_entries(folder: Path) -> list[tuple[Path, bool]]:
    """Return the entries of a folder, sorted, and whether each is a folder; without a call to the file system each."""
    with os.scandir(folder) as entries:
        return sorted((Path(entry.path), entry.is_dir()) for entry in entries)


def is_passed_over(path: Path) -> bool:
    """Return whether a file is a hidden one or an operating system's own."""
    return path.name.startswith(".") or path.name in _SYSTEM_FILES


def file_names(folder: Path) -> set[str]:
    """Return the names in a folder, none if there is no folder, by one call to the file system for all."""
    return {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
