"""Atomic writing of files: a file is written completely or not at all."""

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
"""Stems of temporary files."""

STALE = 24 * 3600
"""Age in seconds at which no running program uses a temporary file."""


@contextmanager
def atomic_path(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which replaces ``path`` if the block ends without an error.

    After an error, nothing is written and an older file stays. The temporary name has the same suffix, because writers
    read the format from it. Missing parent folders are created. Permissions are those of an older file, or else those
    that the umask allows. A device or a pipe, such as ``/dev/stdout``, is written directly.

    Args:
        path: the file to write.
        durable: whether to wait until the bytes are on the disk, so that a power cut cannot lose both files.

    Raises:
        ConfigError: a command may not replace ``path``; see :mod:`segmnv2.files.ownership`.
        OSError: the folder cannot be created, or the file cannot be written.
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
        if temporary.stat().st_mode != mode:  # some writers create files that only their owner can read
            temporary.chmod(mode & 0o7777)
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        place(temporary, path)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale(path: str | Path) -> None:
    """Remove temporary files next to ``path``, with the same suffix, that killed processes wrote over a day ago."""
    path = Path(path)
    for temporary in path.parent.glob(f".*{path.suffix}"):
        with suppress(OSError):
            if TEMPORARY.fullmatch(temporary.stem) and time.time() - temporary.stat().st_mtime > STALE:
                temporary.unlink()


def write_image(path: str | Path, image: Image, kind: str, **options: Any) -> Path:
    """Write an image completely or not at all, and return its path.

    The image is encoded in memory first, because Pillow's encoders do not notice a full disk.

    Args:
        path: the file to write.
        image: the image.
        kind: Pillow's name of the format, such as ``PNG``.
        options: options of the format, such as ``quality=95``.

    Raises:
        OSError: the file cannot be written.
    """
    content = encode_image(image, kind, **options)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def encode_image(image: Image, kind: str, **options: Any) -> bytes:
    """Return an image as the content of a file; the arguments are those of :func:`write_image`."""
    content = BytesIO()
    image.save(content, format=kind, **options)
    return content.getvalue()


def check_writable(path: str | Path) -> Path:
    """Check that a file can be written later, without writing anything.

    Raises:
        ConfigError: the file cannot be written, or a command may not replace it; see :mod:`segmnv2.files.ownership`.
    """
    return _check(Path(path), folder=False)


def check_folder(path: str | Path) -> Path:
    """Check that files can be written to a folder later, which need not exist yet, without writing anything.

    Raises:
        ConfigError: files cannot be written to it.
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
                raise ConfigError(f"{path}: is a folder; give a file to write")
            check_replaceable([path])
        home = path if folder else path.parent
        existing = next(ancestor for ancestor in (home, *home.parents) if ancestor.exists())
        if not existing.is_dir():
            fault = (
                "is a file, not a folder" if existing == path else f"cannot be written, because {existing} is a file"
            )
            raise ConfigError(f"{path}: {fault}; choose another path")
        probe = existing / f".{uuid4().hex}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error}); choose a folder with write access") from error
    return path
