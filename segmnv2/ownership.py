"""Files that a command may replace: those that this program wrote and nobody changed.

Each folder with results has a hidden list of them, :data:`LIST`: a line a file, with its size and its time of change.
The command line runs every command under :func:`protected`; :func:`segmnv2.atomic.atomic_path` and the exports then put
a file in its place through :func:`place`. Without ``protected``, as in Python programs, files are replaced as usual.
"""

from __future__ import annotations

import filecmp
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from segmnv2.errors import ConfigError

LIST = ".segmnv2"

OVERWRITE = "--overwrite"


@dataclass
class _Protection:
    overwrite: bool
    inputs: set[Path]
    own: set[Path] = field(default_factory=set)
    lists: dict[Path, set[bytes]] = field(default_factory=dict)


_protection: _Protection | None = None


@contextmanager
def protected(inputs: Iterable[str | Path], *, overwrite: bool = False) -> Iterator[None]:
    """Replace only files that this program wrote, while the block runs.

    Args:
        inputs: files, and folders with all that is below them, that are never replaced.
        overwrite: replace other files too, except inputs.
    """
    global _protection
    before, _protection = _protection, _Protection(overwrite, {Path(path).resolve() for path in inputs})
    try:
        yield
    finally:
        _protection = before


def protect(inputs: Iterable[str | Path]) -> None:
    """Add inputs of the command that runs."""
    if _protection is not None:
        _protection.inputs.update(Path(path).resolve() for path in inputs)


def claim(path: str | Path) -> None:
    """Let the command that runs replace a file, or all files of a folder, that only this program uses, as its cache."""
    if _protection is not None:
        _protection.own.add(Path(path).resolve())


def check_replaceable(paths: Iterable[str | Path]) -> None:
    """Make sure, before the work, that files can be written where others may be.

    Raises:
        ConfigError: this program did not write one of them, or it is an input.
    """
    for path in paths:
        _check(Path(path), None)


def place(new: Path, path: Path) -> None:
    """Note a complete file or folder in the list of ``path``'s folder, as what may replace ``path`` next.

    Raises:
        ConfigError: this program did not write ``path``, and ``new`` differs from it.
        OSError: the list cannot be written.
    """
    if _protection is None or _is_own(path):
        return
    _check(path, new)
    line = _line(path.name, new)
    file = os.open(path.with_name(LIST), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(file, line + b"\n")  # one call, so that threads and processes write whole lines
    finally:
        os.close(file)
    _lines(path.parent).add(line)


def _check(path: Path, new: Path | None) -> None:
    if _protection is None or not path.exists() or _is_own(path) or _line(path.name, path) in _lines(path.parent):
        return
    if new is not None and path.is_file() and new.is_file() and filecmp.cmp(path, new, shallow=False):
        return
    if _is_below(path, _protection.inputs):
        raise ConfigError(
            f"{path}: is an input of this command and would be replaced; choose another place for results"
        )
    if not _protection.overwrite:
        raise ConfigError(
            f"{path}: exists, and segmnv2 did not write it or it was changed since; choose another place, or replace "
            f"it with {OVERWRITE}"
        )


def _is_own(path: Path) -> bool:
    assert _protection is not None
    return _is_below(path, _protection.own)


def _is_below(path: Path, folders: set[Path]) -> bool:
    resolved = path.resolve()
    return not folders.isdisjoint((resolved, *resolved.parents))


def _line(name: str, file: Path) -> bytes:
    found = file.stat()
    return json.dumps([name, 0 if file.is_dir() else found.st_size, found.st_mtime_ns]).encode()


def _lines(folder: Path) -> set[bytes]:
    """Return the lines of a folder's list, which is read once a command."""
    assert _protection is not None
    if folder not in _protection.lists:
        try:
            _protection.lists[folder] = set((folder / LIST).read_bytes().splitlines())
        except OSError:
            _protection.lists[folder] = set()
    return _protection.lists[folder]
