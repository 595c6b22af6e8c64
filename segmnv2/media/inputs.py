"""Images, videos and cameras among inputs: files, folders, glob patterns and words.

- A file whose name ends in one of :data:`VIDEO_ENDINGS`, in any case, is a video.
- ``camera:N`` is camera N of this machine, from 0. A number ``N`` is the same, unless a file has that name.
- All other inputs are images, see :func:`list_images`.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from segmnv2.data.image_file import ENDINGS
from segmnv2.errors import MediaError
from segmnv2.files.checksum import is_passed_over

FFMPEG_LEVEL = "OPENCV_FFMPEG_LOGLEVEL"
FFMPEG_QUIET = "-8"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence OpenCV in the block, and FFmpeg permanently, unless its level is set in the environment."""
    os.environ.setdefault(FFMPEG_LEVEL, FFMPEG_QUIET)  # OpenCV reads it once, when it first opens a video
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


VIDEO_ENDINGS = (
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4",
    ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv",
)  # fmt: skip
CAMERA = "camera:"


@dataclass(frozen=True)
class VideoSource:
    """A video file, or a camera if ``path`` is ``None``."""

    path: Path | None
    camera: int = 0

    @property
    def live(self) -> bool:
        """Whether the source is a camera."""
        return self.path is None

    @property
    def stem(self) -> str:
        """Stem of the names of result files."""
        return f"camera{self.camera}" if self.path is None else self.path.stem

    def __str__(self) -> str:
        """Return the source's name in messages."""
        return f"camera {self.camera}" if self.path is None else str(self.path)


def find_video(word: str | Path | int) -> VideoSource | None:
    """Return the video or camera of a word by the rule at the top of this file; ``None`` for images.

    Raises:
        MediaError: it begins with ``camera:`` and no number follows.
    """
    if isinstance(word, int):
        return VideoSource(None, word)
    text = str(word)
    number = text.removeprefix(CAMERA)
    if number != text and not number.isdecimal():
        raise MediaError(f"{text}: is not a camera; give camera:N with its number from 0, such as {CAMERA}0")
    if number.isdecimal() and (number != text or not Path(text).exists()):
        return VideoSource(None, int(number))
    return VideoSource(Path(text)) if Path(text).suffix.lower() in VIDEO_ENDINGS else None


T = TypeVar("T")

_NAMED = 3


def list_images(
    inputs: Sequence[str | Path], *, recursive: bool = False, exclude: Sequence[str | Path] = ()
) -> list[Path]:
    """Return the image files of ``inputs``, each once, in the order of ``inputs``.

    - A file is used with any ending.
    - A folder gives its files that end in one of :data:`segmnv2.data.image_file.ENDINGS`, sorted and without hidden
      ones; with ``recursive`` also those of its subfolders.
    - A pattern with ``*``, ``?`` or ``[]`` gives its matches as in a shell, sorted (``**`` matches any depth); each
      match is treated as above. If a file with exactly this name exists, only that file is used.

    Files in the folders ``exclude``, such as folders of results, are skipped.

    Raises:
        MediaError: no inputs, files or folders that do not exist, an input without an image, or a file given by
            name inside ``exclude``.
    """
    if not inputs:
        raise MediaError("no images given; give files, folders or patterns such as 'images/*.jpg'")
    missing = [str(item) for item in inputs if not (Path(item).exists() or glob.has_magic(str(item)))]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise MediaError(f"{', '.join(missing[:3])}{more}: there is no such file or folder; check the path")
    excluded = [Path(folder).resolve() for folder in exclude]
    files: dict[Path, Path] = {}
    for item in inputs:
        matches = [path for path in _expand(str(item), recursive) if not _is_inside(path, excluded)]
        if not matches:
            raise MediaError(_nothing_message(str(item), recursive))
        for path in matches:
            files.setdefault(path.parent.resolve() / path.name, path)  # two links to one file are two images
    return list(files.values())


def list_others(
    inputs: Sequence[str | Path], *, recursive: bool = False, exclude: Sequence[str | Path] = ()
) -> list[Path]:
    """Return the files in folders of ``inputs`` that :func:`list_images` skips because of their endings, sorted.

    Hidden files and those of the operating system do not count.
    """
    excluded = [Path(folder).resolve() for folder in exclude]
    folders = [match for item in inputs for match in find_matches(str(item)) if match.is_dir()]
    others = {path for folder in folders for path in _folder_files(folder, recursive) if not _is_image(path)}
    return sorted(path for path in others if not is_passed_over(path) and not _is_inside(path, excluded))


def describe_others(others: Sequence[Path]) -> str:
    """Return the count, endings and first names of other files, such as ``2 .heic, 1 .mp4 (a.heic, ...)``."""
    counts = Counter(path.suffix.lower() or "without ending" for path in others)
    kinds = ", ".join(f"{count} {ending}" for ending, count in counts.most_common())
    more = ", ..." if len(others) > _NAMED else ""
    return f"{kinds} ({', '.join(str(path) for path in others[:_NAMED])}{more})"


def pick_evenly(items: Sequence[T], most: int | None) -> list[T]:
    """Return at most ``most`` items, evenly distributed over their order; all items for ``None``."""
    if most is None or most >= len(items):
        return list(items)
    return [items[int(index)] for index in np.linspace(0, len(items) - 1, most).round()]


def _expand(item: str, recursive: bool) -> list[Path]:
    try:
        return [file for match in find_matches(item) for file in _files(match, recursive)]
    except OSError as error:
        raise MediaError(f"{item}: cannot be searched ({error.strerror or error}); give a readable folder") from error


def find_matches(item: str) -> list[Path]:
    """Return the files and folders of an input: those that match a pattern, or else the path itself."""
    if Path(item).exists() or not glob.has_magic(item):
        return [Path(item)]
    return [Path(match) for match in sorted(glob.glob(item, recursive=True))]  # noqa: PTH207  (for absolute patterns)


def _files(path: Path, recursive: bool) -> list[Path]:
    return [file for file in _folder_files(path, recursive) if _is_image(file)] if path.is_dir() else [path]


def _folder_files(folder: Path, recursive: bool) -> list[Path]:
    """Return a folder's files, sorted, without hidden ones.

    Linked subfolders are searched too, each once. Broken links are included; reading them fails.
    """
    files, seen = [], {os.path.realpath(folder)}
    for top, folders, names in os.walk(folder, onerror=_fail, followlinks=True):
        inner = {os.path.realpath(Path(top, name)): name for name in sorted(folders) if name[0] != "."}
        folders[:] = [name for real, name in inner.items() if recursive and real not in seen]
        seen.update(inner)
        files += [Path(top, name) for name in names if name[0] != "."]
    return sorted(path for path in files if path.is_file() or not path.exists())


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
        listed = f" but {describe_others(others)}" if others else ""
        return f"{item}: {where} no image ({endings}) besides results of segmnv2{listed}; {remedy}"
    if path.exists():
        return f"{item}: is where the results are written and would be replaced; choose another output folder"
    return f"{item}: no file or folder matches this pattern, besides results of segmnv2; check it"
