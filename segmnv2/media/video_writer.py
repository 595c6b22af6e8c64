"""Video files from images, written whole or not at all.

OpenCV writes no sound, and does not report a full disk. So the frames in the file are counted at the end.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from segmnv2.errors import ConfigError
from segmnv2.files.atomic import atomic_path, check_writable
from segmnv2.media.inputs import quiet

CODECS: dict[str, tuple[str, ...]] = {
    ".avi": ("MJPG", "mp4v"),
    ".m4v": ("mp4v", "avc1"),
    ".mkv": ("mp4v", "MJPG"),
    ".mov": ("mp4v", "avc1", "MJPG"),
    ".mp4": ("mp4v", "avc1", "MJPG"),
}
"""Ending -> codecs; the first one that OpenCV can write is used."""

LEAST_ROOM = 2**20  # bytes that must be free on the disk
BETWEEN_CHECKS = 30  # frames between two checks of the free space


def check_video_ending(path: Path) -> Path:
    """Return ``path`` if videos of its ending can be written, else raise a ConfigError."""
    if path.suffix.lower() in CODECS:
        return path
    raise ConfigError(
        f"{path}: videos are not written with the ending '{path.suffix}'; give one of {', '.join(CODECS)}, or a folder "
        "(a name without ending) for one mask per frame"
    )


class VideoWriter:
    """Writes frames of one size at a constant frame rate.

    Attributes:
        codec: the codec.
        note: a message for the user, if there is one.
        count: frames written.
    """

    def __init__(self, path: Path, size: tuple[int, int], frame_rate: float) -> None:
        """Open a file for writing, or raise a ConfigError.

        Args:
            path: the video file; its ending selects the container.
            size: (width, height) of the frames. An odd side gets a copy of its last row or column, because codecs store
                colors of 2 x 2 pixels.
            frame_rate: frames per second.
        """
        self.path, self.size, self.count = path, size, 0
        self._even = (size[0] + size[0] % 2, size[1] + size[1] % 2)
        self.codec, self._writer = _open(path, self._even, frame_rate)
        wanted = CODECS[path.suffix.lower()][0]
        fallen_back = self.codec != wanted
        self.note = f"OpenCV cannot write {wanted} here; {self.codec} is used instead" if fallen_back else None

    def write(self, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Append a frame, RGB, 0..255; one of another size is scaled.

        Raises:
            OSError: the disk is full.
        """
        if (image.shape[1], image.shape[0]) != self.size:
            image = np.asarray(cv2.resize(image, self.size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        right, bottom = self._even[0] - self.size[0], self._even[1] - self.size[1]
        if right or bottom:
            image = np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="edge")
        if self.count % BETWEEN_CHECKS == 0 and shutil.disk_usage(self.path.parent).free < LEAST_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        self.count += 1

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._writer.release()

    def verify(self) -> None:
        """Raise an OSError unless the closed file holds all written frames."""
        with quiet():
            capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
            count = capture.get(cv2.CAP_PROP_FRAME_COUNT) if capture.isOpened() else 0
            capture.release()
        if count != self.count:
            raise OSError(f"not all of {self.count} frames are in the file; the disk may be full")


@contextmanager
def video_file(path: Path, size: tuple[int, int], frame_rate: float) -> Iterator[VideoWriter]:
    """Yield a writer of a file that is complete when the block ends.

    After an error no file is written, and an older file stays unchanged. After Ctrl-C the frames written so far become
    a whole file, and the interruption continues.

    Raises:
        ConfigError: the ending, the folder or the disk does not allow it.
    """
    check_writable(check_video_ending(path))
    try:
        with ExitStack() as file:
            writer = VideoWriter(file.enter_context(atomic_path(path)), size, frame_rate)
            try:
                yield writer
            except KeyboardInterrupt:
                writer.close()
                if writer.count:
                    writer.verify()
                    file.close()  # here, where a second signal cannot interrupt it
                raise
            finally:
                writer.close()
            writer.verify()
    except OSError as error:
        raise ConfigError(
            f"{path}: the video cannot be written ({error.strerror or error}); free space there, or choose "
            "another folder with write access"
        ) from error


def _open(path: Path, size: tuple[int, int], frame_rate: float) -> tuple[str, cv2.VideoWriter]:
    """Return the first codec that can be used, with its writer.

    MPEG-4 counts time in steps of 1/65535 s or longer, which cannot express every rate, so rounded rates are tried too.
    """
    rates = list(dict.fromkeys((frame_rate, round(frame_rate, 2), max(1.0, round(frame_rate)))))
    with quiet():
        for codec in CODECS[path.suffix.lower()]:
            for rate in rates:
                writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), rate, size)
                if writer.isOpened():
                    return codec, writer
    raise ConfigError(
        f"*{path.suffix}: OpenCV here cannot write any of its codecs ({', '.join(CODECS[path.suffix.lower()])}) at "
        f"{size[0]}x{size[1]}; give another ending ({', '.join(CODECS)}) or a folder for one mask per frame"
    )
