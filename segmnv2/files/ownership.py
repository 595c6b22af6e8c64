"""Protection of files: a command only replaces files that this program wrote and that have not changed since.

Each folder with results has a hidden list of them, :data:`LIST`. Each line has name, size and modification time of one
file. New lines are appended. A command that reads a list with mostly outdated lines removes the outdated ones.

The command line runs every command inside :func:`protected`. Then :func:`segmnv2.files.atomic.atomic_path` and the
exports call :func:`place` before they replace a file. In Python programs, which do not use :func:`protected`, files are
replaced without a check.
"""

from __future__ import annotations

import filecmp
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from segmnv2.errors import ConfigError
from segmnv2.files.checksum import file_names

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

LIST = ".segmnv2"

MOST_OLD = 1000
"""Number of lines. A list with more than these, plus two per file in its folder, loses its outdated lines."""

OVERWRITE = "--overwrite"


@dataclass
class _Protection:
    overwrite: bool
    inputs: set[Path]
    kept: set[Path]
    own: set[Path] = field(default_factory=set)
    lists: dict[Path, set[bytes]] = field(default_factory=dict)
    above: dict[Path, tuple[Path, ...]] = field(default_factory=dict)


_protection: _Protection | None = None


@contextmanager
def protected(inputs: Iterable[str | Path], *, overwrite: bool = False) -> Iterator[None]:
    """Protect files that this program did not write while the block runs.

    Args:
        inputs: files that are never replaced, and folders in which only files of this program are replaced.
        overwrite: whether to replace other files too, except inputs.
    """
    global _protection
    resolved = {Path(path).resolve() for path in inputs}
    kept = {path for path in resolved if path.is_file()}
    before, _protection = _protection, _Protection(overwrite, resolved, kept)
    try:
        yield
    finally:
        _protection = before


def protect(inputs: Iterable[str | Path]) -> None:
    """Add files and folders to the inputs, which the running command never replaces."""
    if _protection is not None:
        _protection.kept.update(Path(path).resolve() for path in inputs)


def claim(path: str | Path) -> None:
    """Let the running command replace a file or a folder that only this program uses, such as its cache."""
    if _protection is not None:
        _protection.own.add(Path(path).resolve())


def check_replaceable(paths: Iterable[str | Path]) -> None:
    """Check, before the work, that existing files may be replaced.

    Raises:
        ConfigError: this program did not write one of the files, or it is an input.
    """
    for path in paths:
        _check(Path(path), None)


def place(new: Path, path: Path) -> None:
    """Check that a complete file or folder may replace ``path``, and add it to the list of the folder.

    Raises:
        ConfigError: this program did not write ``path``, and ``new`` differs from it.
        OSError: the list cannot be written.
    """
    if _protection is None or _is_own(path):
        return
    _check(path, new)
    line = _line(path.name, new)
    with _locked_list(path.parent, os.O_APPEND | os.O_CREAT) as file:
        os.write(file, line + b"\n")
    _lines(path.parent).add(line)


def _check(path: Path, new: Path | None) -> None:
    if _protection is None or not (path.is_file() or path.is_dir()) or _is_own(path):  # devices keep no content
        return
    is_kept = _is_below(path, _protection.kept)
    if not is_kept and _line(path.name, path) in _lines(path.parent):
        return
    if new is not None and path.is_file() and new.is_file() and filecmp.cmp(path, new, shallow=False):
        return
    if is_kept or _is_below(path, _protection.inputs):
        raise ConfigError(f"{path}: is an input of this command and would be replaced; choose another path for results")
    if not _protection.overwrite:
        raise ConfigError(
            f"{path}: exists, and segmnv2 did not write it, or it was changed later; choose another path, or add "
            f"{OVERWRITE} to replace the file"
        )


def _is_own(path: Path) -> bool:
    assert _protection is not None
    return _is_below(path, _protection.own)


def _is_below(path: Path, folders: set[Path]) -> bool:
    assert _protection is not None
    if not folders:
        return False
    if path.is_symlink():
        path = path.resolve()
    above = _protection.above.get(path.parent)
    if above is None:
        folder = path.parent.resolve()
        above = _protection.above[path.parent] = (folder, *folder.parents)
    return not folders.isdisjoint(above) or above[0] / path.name in folders


def _line(name: str, file: Path) -> bytes:
    status = file.stat()
    return json.dumps([name, 0 if file.is_dir() else status.st_size, status.st_mtime_ns]).encode()


def _lines(folder: Path) -> set[bytes]:
    """Return the lines of a folder's list, which each command reads once."""
    assert _protection is not None
    if folder not in _protection.lists:
        lines: list[bytes] = []
        with suppress(OSError):
            lines = (folder / LIST).read_bytes().splitlines()
            if len(lines) > 2 * len(file_names(folder)) + MOST_OLD:
                lines = _compact(folder)
        _protection.lists.setdefault(folder, set(lines))
    return _protection.lists[folder]


def _compact(folder: Path) -> list[bytes]:
    """Remove outdated lines from a folder's list, and return the others.

    A line is outdated if its file is missing or has a later line. The last lines stay, because their
    files may not be in place yet. The list is shortened in place, so that an interruption leaves no wrong lines.
    """
    with _locked_list(folder) as file:
        with os.fdopen(os.dup(file), "rb") as reader:
            lines = reader.read().splitlines()
        latest = {line.rpartition(b",")[0].rpartition(b",")[0]: line for line in lines}
        names = {json.dumps([name])[:-1].encode() for name in file_names(folder)}
        last = set(lines[-MOST_OLD:])
        kept = [line for name, line in latest.items() if name in names or line in last]
        content = b"".join(line + b"\n" for line in kept)
        os.lseek(file, 0, os.SEEK_SET)
        if os.write(file, content) == len(content):
            os.ftruncate(file, len(content))
    return kept


@contextmanager
def _locked_list(folder: Path, flags: int = 0) -> Iterator[int]:
    """Open a folder's list, and lock it against other processes and threads if the file system has locks."""
    file = os.open(folder / LIST, os.O_RDWR | flags, 0o666)
    try:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)
