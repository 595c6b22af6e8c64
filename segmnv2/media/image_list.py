"""Image files in a list of files, folders and glob patterns."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from segmnv2.data.image_file import ENDINGS
from segmnv2.errors import MediaError
from segmnv2.files.folders import is_passed_over

T = TypeVar("T")

_NAMED = 3


def list_images(
    inputs: Sequence[str | Path], *, recursive: bool = False, exclude: Sequence[str | Path] = ()
) -> list[Path]:
    """Return the image files that ``inputs`` stand for, each once, in the order of ``inputs``.

    - A file is taken whatever its name.
    - A folder gives, sorted, its files that end in one of :data:`segmnv2.data.image_file.ENDINGS`, hidden ones apart;
      with ``recursive`` those of its subfolders too.
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
        raise MediaError("no images given; give files, folders or patterns such as 'images/*.jpg'")
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
            found.setdefault(path.parent.resolve() / path.name, path)  # two links to one file are two images
    return list(found.values())


def list_others(
    inputs: Sequence[str | Path], *, recursive: bool = False, exclude: Sequence[str | Path] = ()
) -> list[Path]:
    """Return the files of the folders among ``inputs`` that :func:`list_images` passes over by their endings, sorted.

    Hidden files and those of the operating system do not count.
    """
    excluded = [Path(folder).resolve() for folder in exclude]
    folders = [match for item in inputs for match in _matches(str(item)) if match.is_dir()]
    others = {path for folder in folders for path in _folder_files(folder, recursive) if not _is_image(path)}
    return sorted(path for path in others if not is_passed_over(path) and not _is_inside(path, excluded))


def describe_others(others: Sequence[Path]) -> str:
    """Return the count, endings and first names of files that are no images, as ``2 .heic, 1 .mp4 (a.heic, ...)``."""
    counts = Counter(path.suffix.lower() or "without ending" for path in others)
    kinds = ", ".join(f"{count} {ending}" for ending, count in counts.most_common())
    more = ", ..." if len(others) > _NAMED else ""
    return f"{kinds} ({', '.join(str(path) for path in others[:_NAMED])}{more})"


def spread_evenly(items: Sequence[T], most: int | None) -> list[T]:
    """Return at most so many items, evenly over their order; all of them for ``None``."""
    if most is None or most >= len(items):
        return list(items)
    return [items[int(index)] for index in np.linspace(0, len(items) - 1, most).round()]


def _expand(item: str, recursive: bool) -> list[Path]:
    try:
        return [file for match in _matches(item) for file in _files(match, recursive)]
    except OSError as error:
        raise MediaError(f"{item}: cannot be searched ({error.strerror or error}); give a readable folder") from error


def _matches(item: str) -> list[Path]:
    if Path(item).exists() or not glob.has_magic(item):
        return [Path(item)]
    return [Path(match) for match in sorted(glob.glob(item, recursive=True))]  # noqa: PTH207  (for absolute patterns)


def _files(path: Path, recursive: bool) -> list[Path]:
    return [file for file in _folder_files(path, recursive) if _is_image(file)] if path.is_dir() else [path]


def _folder_files(folder: Path, recursive: bool) -> list[Path]:
    """Return a folder's files, sorted, without hidden ones.

    Linked subfolders are searched too, each once. Links to nothing are files that cannot be read.

    Raises:
        OSError: a folder cannot be listed.
    """
    found, seen = [], {os.path.realpath(folder)}
    for top, folders, names in os.walk(folder, onerror=_fail, followlinks=True):
        inner = {os.path.realpath(Path(top, name)): name for name in sorted(folders) if name[0] != "."}
        folders[:] = [name for place, name in inner.items() if recursive and place not in seen]
        seen.update(inner)
        found += [Path(top, name) for name in names if name[0] != "."]
    return sorted(path for path in found if path.is_file() or not path.exists())


def _fail(error: OSError) -> None:
    raise error


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS


def _is_inside(path: Path, folders: Sequence[Path]) -> bool:
    resolved = path.resolve()
    return any(folder in resolved.parents for folder in folders)


def _nothing_message(item: str, recursive: bool) -> str:
    path = Path(item)
    endings = ", ".join(ENDINGS)
    if path.is_dir():
        where = "it and its subfolders hold" if recursive else "it holds"
        remedy = "give the files by name" if recursive else "--recursive searches its subfolders too"
        others = list_others([item], recursive=recursive)
        found = f" but {describe_others(others)}" if others else ""
        return f"{item}: {where} no image ({endings}) besides results of segmnv2{found}; {remedy}"
    if path.exists():
        return f"{item}: is where the results are written and would be replaced; choose another output folder"
    return f"{item}: no file or folder matches this pattern, besides results of segmnv2; check it"
