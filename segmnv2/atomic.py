"""Files appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from segmnv2.errors import ConfigError
from segmnv2.ownership import check_replaceable, place


@contextmanager
def atomic_path(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends without an error.

    The temporary name keeps the suffix, from which writers tell the format. After an error nothing is left and an older
    ``path`` is untouched. Missing parent folders are made.

    Args:
        path: the file to write.
        durable: wait until the bytes are on the disk before the old file goes, so that a power cut loses neither.

    Raises:
        ConfigError: a command may not replace ``path`` (:mod:`segmnv2.ownership`).
        OSError: the folder cannot be made, or the file not put in its place.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid4().hex}{path.suffix}")
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        place(temporary, path)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> Path:
    """Make sure that a file can be written later, before the work whose result it shall hold; nothing is made.

    Raises:
        ConfigError: it cannot, or a command may not replace it (:mod:`segmnv2.ownership`); the reason is named.
    """
    return _check(Path(path), folder=False)


def check_folder(path: str | Path) -> Path:
    """Make sure that files can be written into a folder later, which need not exist yet; nothing is made.

    Raises:
        ConfigError: they cannot; the reason is named.
    """
    return _check(Path(path), folder=True)


def _check(path: Path, *, folder: bool) -> Path:
    try:
        if path.exists() and path.is_dir() != folder:
            found, wanted = ("a file", "a folder") if folder else ("a folder", "a file")
            raise ConfigError(f"{path}: is {found}; name {wanted} to write")
        if not folder:
            check_replaceable([path])
        home = path if folder else path.parent
        probe = next(each for each in (home, *home.parents) if each.exists()) / f".{uuid4().hex}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error}); choose a folder with write access") from error
    return path
