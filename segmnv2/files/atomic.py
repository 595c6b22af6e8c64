"""Files appear whole or not at all."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from segmnv2.errors import ConfigError
from segmnv2.files.ownership import check_replaceable, place

if TYPE_CHECKING:
    from PIL.Image import Image


TEMPORARY = re.compile(r"\.[0-9a-f]{32}")
"""Stems of the temporary files."""

STALE = 24 * 3600
"""Seconds after which a temporary file belongs to no running program."""


@contextmanager
def atomic_path(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends without an error.

    The temporary name keeps the suffix, by which writers know the format. After an error nothing is written, an older
    ``path`` stays. Missing parent folders are made. Permissions are those of an older file, else those that the
    process's umask allows. A device or a pipe, as ``/dev/stdout``, is written directly.

    Args:
        path: the file to write.
        durable: wait until the bytes are on the disk before the old file goes, so that a power cut loses neither.

    Raises:
        ConfigError: a command may not replace ``path`` (:mod:`segmnv2.files.ownership`).
        OSError: the folder cannot be made, or the file not put in its place.
    """
    path = Path(path)
    if _is_device(path):
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid4().hex}{path.suffix}")
    try:
        temporary.touch()
        mode = (path if path.is_file() else temporary).stat().st_mode
        yield temporary
        if temporary.stat().st_mode != mode:  # some writers make files that only their owner can read
            temporary.chmod(mode & 0o7777)
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        place(temporary, path)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale(path: str | Path) -> None:
    """Remove what processes that were killed while they wrote ``path`` left beside it more than a day ago.

    Other files of its suffix that :func:`atomic_path` writes into the folder leave the same names.
    """
    path = Path(path)
    for left in path.parent.glob(f".*{path.suffix}"):
        with suppress(OSError):
            if TEMPORARY.fullmatch(left.stem) and time.time() - left.stat().st_mtime > STALE:
                left.unlink()


def write_image(path: str | Path, picture: Image, kind: str, **options: Any) -> Path:
    """Write an image, whole or not at all, and return its path.

    It is encoded in memory: Pillow's encoders do not notice that a disk is full.

    Args:
        path: the file to write.
        picture: the image.
        kind: Pillow's name of the format, as ``PNG``.
        options: options of the format, such as ``quality=95``.

    Raises:
        OSError: the file cannot be written.
    """
    content = BytesIO()
    picture.save(content, format=kind, **options)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())
    return Path(path)


def check_writable(path: str | Path) -> Path:
    """Make sure that a file can be written later, before the work whose result it shall hold; nothing is made.

    Raises:
        ConfigError: it cannot, or a command may not replace it (:mod:`segmnv2.files.ownership`); the reason is named.
    """
    return _check(Path(path), folder=False)


def check_folder(path: str | Path) -> Path:
    """Make sure that files can be written into a folder later, which need not exist yet; nothing is made.

    Raises:
        ConfigError: they cannot; the reason is named.
    """
    return _check(Path(path), folder=True)


def _is_device(path: Path) -> bool:
    return path.exists() and not (path.is_file() or path.is_dir())


def _check(path: Path, *, folder: bool) -> Path:
    try:
        if not folder:
            if _is_device(path):
                return path
            if path.is_dir():
                raise ConfigError(f"{path}: is a folder; name a file to write")
            check_replaceable([path])
        home = path if folder else path.parent
        existing = next(each for each in (home, *home.parents) if each.exists())
        if not existing.is_dir():
            fault = (
                "is a file, not a folder" if existing == path else f"cannot be written, because {existing} is a file"
            )
            raise ConfigError(f"{path}: {fault}; choose another place")
        probe = existing / f".{uuid4().hex}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error}); choose a folder with write access") from error
    return path
