"""Recognition of videos and cameras among inputs.

- A file whose name ends in one of :data:`VIDEO_ENDINGS`, in any case.
- ``camera:N``: camera N of this machine, from 0.
- A bare number ``N``, if no file has that name: the same.

Silence of OpenCV and FFmpeg, which print on standard error what this library reports itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2

from segmnv2.errors import MediaError

FFMPEG_LEVEL = "OPENCV_FFMPEG_LOGLEVEL"
FFMPEG_QUIET = "-8"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep OpenCV silent in the block, and FFmpeg from then on unless its level is set in the environment."""
    os.environ.setdefault(FFMPEG_LEVEL, FFMPEG_QUIET)  # OpenCV reads it once, when it first opens a video
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


VIDEO_ENDINGS = (
    ".3gp",
    ".avi",
    ".flv",
    ".m2ts",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".mts",
    ".ogv",
    ".ts",
    ".webm",
    ".wmv",
)
CAMERA = "camera:"


@dataclass(frozen=True)
class VideoSource:
    """A file or a camera.

    Attributes:
        path: of the file, or None.
        camera: number of the camera; it counts if there is no path.
    """

    path: Path | None
    camera: int = 0

    @property
    def live(self) -> bool:
        """Whether the source is live."""
        return self.path is None

    @property
    def stem(self) -> str:
        """Stem of the names of result files."""
        return f"camera{self.camera}" if self.path is None else self.path.stem

    def __str__(self) -> str:
        """Return the source's name in messages."""
        return f"camera {self.camera}" if self.path is None else str(self.path)


def find_video(word: str | Path | int) -> VideoSource | None:
    """Return the video or camera that a word means by the rule at the top of this file, or None.

    Raises:
        MediaError: it begins with ``camera:`` and no number follows.
    """
    if isinstance(word, int):
        return VideoSource(None, word)
    text = str(word)
    number = text.removeprefix(CAMERA)
    if number != text and not number.isdecimal():
        raise MediaError(f"{text}: is no camera; give camera:N with its number from 0, as {CAMERA}0")
    if number.isdecimal() and (number != text or not Path(text).exists()):
        return VideoSource(None, int(number))
    return VideoSource(Path(text)) if Path(text).suffix.lower() in VIDEO_ENDINGS else None
