"""Checksums of files, progress of work on bytes, and listings of folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

CHUNK = 1 << 20

Track = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Progress bar: takes a title and the total of bytes, and yields a function to call with each number of bytes done.

The number is negative when work restarts.
"""


@contextmanager
def untracked(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show no progress. This is the default :data:`Track`."""
    yield lambda done: None


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return file_checksum(path, "sha256")


def file_checksum(path: Path, algorithm: str, track: Track = untracked, *, name: str | None = None) -> str:
    """Return the checksum of a file in hexadecimal; the progress bar shows ``name``, by default that of the file."""
    digest = hashlib.new(algorithm)
    with path.open("rb") as file, track(f"check {name or path.name}", path.stat().st_size) as advance:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


_SYSTEM_FILES = ("Thumbs.db", "desktop.ini")


def list_entries(folder: Path) -> list[tuple[Path, bool]]:
    """Return the sorted entries of a folder, and whether each is a folder, without a system call per entry."""
    with os.scandir(folder) as entries:
        return sorted((Path(entry.path), entry.is_dir()) for entry in entries)


def is_passed_over(path: Path) -> bool:
    """Return whether a file is hidden or belongs to the operating system."""
    return path.name.startswith(".") or path.name in _SYSTEM_FILES


def file_names(folder: Path) -> set[str]:
    """Return the names in a folder, without a system call per name; an empty set if there is no folder."""
    return {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
