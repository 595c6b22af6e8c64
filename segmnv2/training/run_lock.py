"""One run at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from segmnv2.errors import ConfigError

LOCK = ".lock"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder while the block runs; the operating system frees it if the process dies.

    Raises:
        ConfigError: another run is in it, or it cannot be written.
    """
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(
            f"{folder}: another run is writing there; wait for it, end it, or choose another folder (--out DIR)"
        ) from error
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error}); choose another folder with --out DIR") from error
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()
