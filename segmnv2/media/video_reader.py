"""Frames of a video file or a camera, upright and with their times."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from segmnv2.errors import ConfigError, MediaError, check_positive_integer
from segmnv2.media.inputs import VideoSource, find_video, quiet
from segmnv2.media.video_headers import has_stated_size, is_mirrored

USUAL_RATE = 25.0  # frames per second if the file states no rate
HIGHEST_RATE = 1000.0  # frames per second; from here on, the header states the unit of its clock and no rate
ROUNDING = 1e-6  # tolerance in seconds of a sum of time stamps
LONGEST_GAP = 600.0  # seconds; after a longer gap, time stamps are wrong, such as in joined recordings
DAMAGED = 60  # frames in a row that may fail before the file counts as ended; the next key frame ends damage


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a video."""

    image: UInt8[np.ndarray, "h w 3"]  # (H, W, 3) uint8 RGB, 0..255, upright
    number: int  # number in the video, from 1; skipped and damaged frames count
    seconds: float  # since the first frame: by the time stamps of a file, by the clock of a camera


class VideoReader:
    """Reads every n-th frame once, in order, in one thread at a time.

    The rotation and mirroring in a file are applied. The number of frames in its header is only an estimate for
    progress: reading ends with the last frame. Times are those of time stamps. A frame without one follows the last
    frame by the stated rate.

    Attributes:
        source: the video or camera.
        size: (width, height) of the first frame.
        every: n, if every n-th frame is yielded.
        frame_rate: yielded frames per second: the source's rate divided by ``every``. It may be a mean if intervals
            vary.
        fault: reason why reading ended too early: a camera was lost, or a file is much shorter than its header states.
            ``None`` otherwise.
    """

    def __init__(
        self,
        source: str | Path | int | VideoSource,
        *,
        every: int = 1,
        frames: int | None = None,
        seconds: float | None = None,
    ) -> None:
        """Open a file, or a camera by ``"camera:N"`` or number, and read its first frame.

        Each ``every``-th frame is read, from the first on, until ``frames`` of them or ``seconds`` have passed.

        Raises:
            ConfigError: a number is not positive.
            MediaError: there is no such file or camera, it is not a video, or has no frame that can be decoded.
        """
        self.every = check_positive_integer("every", every, "give 1 or more")
        self._most = None if frames is None else check_positive_integer("frames", frames, "give 1 or more")
        if seconds is not None and not 0 < seconds < math.inf:
            raise ConfigError(
                f"seconds: {seconds!r} is not a time above 0; give the time to record or read, in seconds"
            )
        self._until = seconds
        video = source if isinstance(source, VideoSource) else find_video(source)
        self.source = video if video is not None else VideoSource(Path(str(source)))
        self.fault: str | None = None
        self._capture = _open(self.source)
        self._flip: int | None = None  # OpenCV's flip code for frames, after rotation
        if self.source.path is not None and is_mirrored(self.source.path):
            # FFmpeg rotates by the rows of the matrix; for a mirrored file, the columns are then reversed.
            self._flip = int(round(self._capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 180 == 90)
        stated = self._capture.get(cv2.CAP_PROP_FPS)
        self._rate = stated if 0 < stated < HIGHEST_RATE else USUAL_RATE
        self.frame_rate = self._rate / self.every
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)  # missing for streams, and wrong for unfinished files
        self._stated_count = int(count) if 0 < count < 2**31 and not self.source.live else None
        self._length = self._stated_count / (stated if stated > 0 else USUAL_RATE) if self._stated_count else None
        self._position = -1  # of the last frame that was passed, from 0
        self._start: float | None = None  # time stamp of the first frame, in seconds
        self._seconds = 0.0  # from the first frame to the last one that was passed
        first = self._read(0)
        if first is None:
            self.close()
            if self.source.live:
                raise MediaError(f"{self.source}: is connected but gives no image; check that no other program uses it")
            raise MediaError(
                f"{self.source}: has no frame that can be decoded; give the whole file, or one that a player plays"
            )
        self._first: UInt8[np.ndarray, "h w 3"] | None = first
        self.size = (first.shape[1], first.shape[0])

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file or camera."""
        self._capture.release()

    @property
    def total(self) -> int | None:
        """Expected number of frames by header and limits; ``None`` if unknown."""
        timed = None if self._until is None or self.source.live else self._until * self._rate
        counts = [math.ceil(count / self.every) for count in (self._stated_count, timed) if count is not None]
        return min(counts if self._most is None else [*counts, self._most], default=None)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; only once, because they are not kept."""
        image, self._first = self._first, None
        given, began = 0, time.monotonic()
        while image is not None:
            seconds = time.monotonic() - began if self.source.live and given else self._seconds
            if self._until is not None and seconds >= self._until - ROUNDING:
                return
            yield Frame(image, self._position + 1, seconds)
            given += 1
            if given == self._most:
                return
            image = self._read(self._position + self.every)
        self.fault = self._ended_early(self._position + 1)

    def _read(self, position: int) -> UInt8[np.ndarray, "h w 3"] | None:
        """Return the first frame at ``position`` or later that can be decoded, RGB, or None at the end."""
        while self._position < position:
            if not self._advance():
                return None
        done, bgr = self._capture.retrieve()
        if not done or bgr is None or bgr.size == 0:
            return None
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        return np.asarray(rgb if self._flip is None else cv2.flip(rgb, self._flip), dtype=np.uint8)

    def _advance(self) -> bool:
        """Go to the next frame that can be decoded; False at the end."""
        for damaged in range(1 if self.source.live else DAMAGED):
            if self._capture.grab():
                self._position += 1 + damaged
                self._seconds = self._time(1 + damaged)
                return True
        return False

    def _time(self, frames: int) -> float:
        """Return the seconds of the frame just passed, ``frames`` after the last one."""
        stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self._start is None:
            self._start = stamp
            return 0.0
        passed = stamp - self._start - self._seconds
        return self._seconds + (passed if 0 < passed < LONGEST_GAP else frames / self._rate)

    def _ended_early(self, count: int) -> str | None:
        """Return a message if an end after ``count`` frames is too early."""
        if self.source.live:
            return (
                f"{self.source}: gives no more frames after {count}; plug it in, and close other programs that use it"
            )
        if self._stated_count is None or self._length is None or self.source.path is None:
            return None
        step = self._seconds / (count - 1) if count > 1 else 1 / self._rate
        missing = min((self._stated_count - count) * step, self._length - self._seconds - step)
        if missing < max(0.05 * self._length, 2.5 * step) or has_stated_size(self.source.path):
            return None  # headers of files with sound are wrong by a few frames, too
        return (
            f"{self.source}: ends after {count} frames at {self._seconds:.2f} s, but its header states "
            f"{self._length:.2f} s; it is probably truncated or damaged; the frames before that are labeled; get the "
            "whole file, or repair it"
        )


def _open(source: VideoSource) -> cv2.VideoCapture:
    """Open a file or camera, or raise a MediaError."""
    with quiet():
        if source.path is None:
            capture = cv2.VideoCapture(source.camera)
            if not capture.isOpened():
                raise MediaError(
                    f"{source}: is not there, or another program uses it; plug it in, close the other program, or give "
                    "another number (on Linux, /dev/videoN is camera N)"
                )
            return capture
        start = _first_bytes(source.path)
        capture = cv2.VideoCapture(str(source.path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise MediaError(
            f"{source}: is not a video that can be read (it starts with {start!r}); it may be truncated: a recording "
            "that was cut off has no index; give the whole file, or one that a player plays"
        )
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    return capture


def _first_bytes(path: Path) -> bytes:
    """Return the first bytes of a file, or raise a MediaError."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except FileNotFoundError:
        raise MediaError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror or error}); give a readable video file") from error
    if not start:
        raise MediaError(f"{path}: is empty (0 bytes); replace the file")
    return start
