"""Identity of data sets: whether two are the same, or share images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def identify(dataset: Any) -> Iterator[str]:
    """Return a line for each image of a data set: its name, and its class or boxes where they are no file.

    Paths above the data set's own folder are left out: a data set may be moved. Images without names are generated, and
    the experiment has their settings.
    """
    if hasattr(dataset, "identity"):
        return iter(dataset.identity())
    names = getattr(dataset, "names", None)
    return map(str, range(len(dataset))) if names is None else iter(names)


def file_sizes(dataset: Any) -> Iterator[int]:
    """Return the bytes of the files of images and masks, which users may repair or replace while a run is stopped.

    Sizes show nearly every change and cost a tenth of a second for ten thousand images. Generated images have no files.
    """
    for path in dataset.changeable_files() if hasattr(dataset, "changeable_files") else ():
        try:
            yield path.stat().st_size
        except OSError:  # reading it gives the message
            yield -1


def count_shared(train: Any, val: Any) -> int:
    """Return how many images are in both data sets.

    They are compared by the files of their images where both have them, else by folder and :func:`identify`; generated
    ones by their size.
    """
    if hasattr(train, "list_images") and hasattr(val, "list_images"):
        return len(set(_resolve(train.list_images())) & set(_resolve(val.list_images())))
    first, second = (
        each.folder.resolve() if hasattr(each, "folder") else (type(each), getattr(each, "size", None))
        for each in (train, val)
    )
    return len(set(identify(train)) & set(identify(val))) if first == second else 0


def _resolve(files: Iterable[Path]) -> Iterator[Path]:
    """Yield files by the true path of their folder, which is looked up once for each folder."""
    folders: dict[Path, Path] = {}
    for file in files:
        if file.parent not in folders:
            folders[file.parent] = file.parent.resolve()
        yield folders[file.parent] / file.name


def digest(lines: Iterable[str]) -> str:
    """Return their number and a checksum, as ``1464 (sha256 0123456789abcdef)``."""
    held = list(lines)
    checksum = hashlib.sha256("\n".join(held).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{len(held)} (sha256 {checksum[:16]})"
