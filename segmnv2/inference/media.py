"""Which image files a list of files, folders and glob patterns means."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from segmnv2.errors import MediaError

T = TypeVar("T")

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings, in any case, by which the images of a folder are known."""


def list_images(
    inputs: Sequence[str | Path], *, recursive: bool = False, exclude: Sequence[str | Path] = ()
) -> list[Path]:
    """Return the image files that ``inputs`` stand for, each once, in the order of ``inputs``.

    - A file is taken whatever its name.
    - A folder gives, sorted, its files that end in one of :data:`EXTENSIONS`, hidden ones apart; with ``recursive``
      those of its subfolders too.
    - A pattern with ``*``, ``?`` or ``[]`` gives, sorted, what a shell would make of it (``**`` matches any depth), and
      each match is treated as above. A file that exists under the very name comes first.

    Args:
        inputs: files, folders, patterns.
        recursive: search subfolders.
        exclude: folders whose contents are passed over, as those that results are written to.

    Raises:
        MediaError: no inputs, files or folders that do not exist, an input that no image matches, or a file given by
            name inside ``exclude``.
    """
    if not inputs:
        raise MediaError("no images given; give files, folders or patterns such as 'photos/*.jpg'")
    missing = [str(item) for item in inputs if not (Path(item).exists() or glob.has_magic(str(item)))]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise MediaError(f"{', '.join(missing[:3])}{more}: there is no such file or folder; check the path")
    excluded = [Path(folder).resolve() for folder in exclude]
    found: dict[Path, Path] = {}
    for item in inputs:
        matches = [path for path in _expand(str(item), recursive) if not _is_inside(path, excluded)]
        if not matches:
            raise MediaError(_nothing_message(str(item), recursive))
        for path in matches:
            found.setdefault(path.resolve(), path)
    return list(found.values())


def spread_evenly(items: Sequence[T], most: int | None) -> list[T]:
    """Return at most so many items, evenly over their order; all of them for ``None``."""
    if most is None or most >= len(items):
        return list(items)
    return [items[int(index)] for index in np.linspace(0, len(items) - 1, most).round()]


def _expand(item: str, recursive: bool) -> list[Path]:
    path = Path(item)
    try:
        if path.exists() or not glob.has_magic(item):
            return _files(path, recursive)
        matches = sorted(glob.glob(item, recursive=True))  # noqa: PTH207  (Path.glob takes no absolute pattern)
        return [file for match in matches for file in _files(Path(match), recursive)]
    except OSError as error:
        raise MediaError(f"{item}: cannot be searched ({error.strerror or error}); give a readable folder") from error


def _files(path: Path, recursive: bool) -> list[Path]:
    return _folder_images(path, recursive) if path.is_dir() else [path]


def _folder_images(folder: Path, recursive: bool) -> list[Path]:
    candidates = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(
        path
        for path in candidates
        if path.suffix.lower() in EXTENSIONS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def _is_inside(path: Path, folders: Sequence[Path]) -> bool:
    resolved = path.resolve()
    return any(folder in resolved.parents for folder in folders)


def _nothing_message(item: str, recursive: bool) -> str:
    path = Path(item)
    endings = ", ".join(EXTENSIONS)
    if path.is_dir():
        where = "it and its subfolders hold" if recursive else "it holds"
        remedy = "give the files by name" if recursive else "--recursive searches its subfolders too"
        return f"{item}: {where} no image ({endings}), own results not counted; {remedy}"
    if path.exists():
        return f"{item}: lies where the results are written and would be overwritten; choose another output folder"
    return f"{item}: no file or folder matches this pattern, own results not counted; check it"
