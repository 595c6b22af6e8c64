"""Silence of OpenCV and FFmpeg, which print on standard error what this library reports itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

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
