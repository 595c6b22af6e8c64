"""An export appears whole and proven, or not at all, be it a file, several, or a folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from segmnv2.files import ownership


@contextmanager
def staged_path(path: str | Path) -> Iterator[Path]:
    """Yield a path of the same name in an empty folder beside ``path``.

    When the block ends without an error, all that was written into that folder takes its place beside ``path``, the
    file of that name last, with the permissions of an older one. After an error nothing is written and older files are
    untouched. Missing parent folders are made.

    Args:
        path: the file, or folder, to write.

    Raises:
        ConfigError: a command may not replace a file that is there (:mod:`segmnv2.files.ownership`).
        OSError: something cannot be written or put in its place.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stage = path.with_name(f".{uuid4().hex}")
    try:
        stage.mkdir()
        yield stage / path.name
        (stage / ownership.LIST).unlink(missing_ok=True)
        parts = sorted(stage.iterdir(), key=lambda each: each.name == path.name)
        for part in parts:
            ownership.place(part, path.with_name(part.name))
        for part in parts:
            _place(part, path.with_name(part.name))
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _place(new: Path, target: Path) -> None:
    """Move a file or folder to where an older one may be; a folder cannot replace another in one step."""
    if target.is_dir() and not target.is_symlink():
        old = new.with_name(f"{new.name}.old")
        target.replace(old)
        try:
            new.replace(target)
        except BaseException:
            old.replace(target)
            raise
        shutil.rmtree(old)
    else:
        if target.is_file():
            new.chmod(target.stat().st_mode & 0o7777)
        new.replace(target)
