"""Listings of folders."""

from __future__ import annotations

import os
from pathlib import Path

_SYSTEM_FILES = ("Thumbs.db", "desktop.ini")


def list_entries(folder: Path) -> list[tuple[Path, bool]]:
    """Return the entries of a folder, sorted, and whether each is a folder; without a call to the file system each."""
    with os.scandir(folder) as entries:
        return sorted((Path(entry.path), entry.is_dir()) for entry in entries)


def is_passed_over(path: Path) -> bool:
    """Return whether a file is a hidden one or an operating system's own."""
    return path.name.startswith(".") or path.name in _SYSTEM_FILES


def file_names(folder: Path) -> set[str]:
    """List a folder once: ten thousand ids would be as many calls to the file system, slow over a network."""
    return {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
