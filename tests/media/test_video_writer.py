from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from segmnv2.errors import ConfigError
from segmnv2.inference.video_files import Clock
from segmnv2.media.video_writer import CODECS, VideoWriter, check_video_ending, video_file
from tests.media.clips import decode, pictures


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("ending", CODECS)
@pytest.mark.parametrize("rate", [10.0, 29.97003, 119.9987, 0.5])
def test_size_rate_count_and_images_are_kept(ending, rate, tmp_path):
    path = tmp_path / f"out{ending}"
    with video_file(path, (48, 32), rate) as writer:
        for picture in pictures():
            writer.write(picture)
    assert (writer.count, writer.note, left(tmp_path)) == (12, None, [path.name])
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(rate, rel=1e-3)
    frames = decode(path)
    assert len(frames) == 12
    for frame, picture in zip(frames, pictures(), strict=True):
        assert frame.shape == picture.shape
        assert np.abs(frame.astype(int) - picture).mean() < 12, "colors are kept, but for compression"


@pytest.mark.parametrize(("height", "width"), [(33, 48), (32, 47), (33, 47)])
def test_odd_sides_get_one_more_row_or_column(height, width, tmp_path):
    path = tmp_path / "out.mp4"
    with video_file(path, (width, height), 10) as writer:
        for picture in pictures(3, height, width):
            writer.write(picture)
    (frame, *_) = decode(path)
    assert frame.shape[:2] == (height + height % 2, width + width % 2)
    assert np.abs(frame[:height, :width].astype(int) - pictures(1, height, width)[0]).mean() < 12


def test_an_image_of_another_size_is_scaled(tmp_path):
    with video_file(tmp_path / "out.avi", (48, 32), 10) as writer:
        writer.write(pictures(1)[0])
        writer.write(np.full((64, 90, 3), 200, np.uint8))
    frames = decode(tmp_path / "out.avi")
    assert [frame.shape for frame in frames] == [(32, 48, 3)] * 2
    assert abs(frames[1].mean() - 200) < 3


def write_until(path: Path, count: int, error: BaseException) -> None:
    with video_file(path, (48, 32), 10) as writer:
        for picture in pictures(count):
            writer.write(picture)
        raise error


def test_an_error_writes_nothing_and_keeps_an_older_file(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"older")
    with pytest.raises(ZeroDivisionError):
        write_until(path, 1, ZeroDivisionError())
    assert left(tmp_path) == ["out.mp4"]
    assert path.read_bytes() == b"older"


def test_an_interrupt_leaves_a_whole_file_of_the_written_frames(tmp_path):
    path = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        write_until(path, 0, KeyboardInterrupt())
    assert left(tmp_path) == []
    with pytest.raises(KeyboardInterrupt):
        write_until(path, 5, KeyboardInterrupt())
    assert left(tmp_path) == ["out.mp4"]
    assert len(decode(path)) == 5


def write_all(path: Path, frames: np.ndarray) -> None:
    with video_file(path, (160, 120), 10) as writer:
        for frame in frames:
            writer.write(frame)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("ending", CODECS)
def test_a_full_disk_is_an_error_that_opencv_does_not_report(ending, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 120, 160, 3), dtype=np.uint8)
    with (
        pytest.raises(ConfigError, match=r"out\..*: the video cannot be written \(not all of 40 frames are"),
        largest_file(100_000),
    ):
        write_all(tmp_path / f"out{ending}", noise)
    assert left(tmp_path) == []


def test_a_full_disk_is_found_before_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with (
        pytest.raises(ConfigError, match=r"cannot be written \(No space left on device\); free space"),
        video_file(tmp_path / "out.mp4", (48, 32), 10) as writer,
    ):
        writer.write(pictures(1)[0])
    assert left(tmp_path) == []


def test_an_unwritable_path_is_an_error_before_any_frame(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    for path in (tmp_path / "file" / "out.mp4", tmp_path / "folder.mp4"):
        with pytest.raises(ConfigError), video_file(path, (48, 32), 10):
            pytest.fail("the block must not run")
    with pytest.raises(ConfigError, match=r"ending '\.gif'; give one of \.avi"):
        check_video_ending(tmp_path / "out.gif")


def test_a_missing_codec_is_replaced_with_a_note(tmp_path, monkeypatch):
    real = cv2.VideoWriter

    class Poor:
        fourcc = real.fourcc

        def __new__(cls, path, backend, codec, rate, size):
            missing = codec == real.fourcc(*"mp4v")
            return real() if missing else real(path, backend, codec, rate, size)

    monkeypatch.setattr(cv2, "VideoWriter", Poor)
    with video_file(tmp_path / "out.mkv", (48, 32), 10) as writer:
        writer.write(pictures(1)[0])
    assert writer.note == "OpenCV cannot write mp4v here; MJPG is used instead"
    assert len(decode(tmp_path / "out.mkv")) == 1
    with pytest.raises(ConfigError, match=r"\*\.m4v: OpenCV here cannot write any of its codecs"):
        VideoWriter(tmp_path / "out.m4v", (48, 32), 10)


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        ([0.0, 0.1, 0.2, 0.3], [0, 1, 2, 3]),
        ([0.0, 0.3, 0.4], [0, 0, 0, 1, 2]),
        ([0.0, 0.02, 0.1, 0.2], [0, 2, 3]),
        ([0.0, 0.12, 0.19, 0.31], [0, 1, 2, 3]),
        ([0.0, 0.05, 0.15, 0.25, 0.35], [0, 1, 2, 3, 4]),
    ],
    ids=["even", "late", "too soon", "uneven", "halves"],
)
def test_a_recording_plays_at_the_original_speed(times, shown):
    written: list[int] = []
    clock = Clock(lambda picture: written.append(int(picture[0, 0, 0])), 10.0)
    for number, seconds in enumerate(times):
        clock.write(np.full((2, 2, 3), number, np.uint8), seconds)
    assert written == shown


def test_ffmpeg_is_silent_without_a_setting(monkeypatch, tmp_path, capfd):
    monkeypatch.delenv("OPENCV_FFMPEG_LOGLEVEL", raising=False)
    with video_file(tmp_path / "out.avi", (48, 32), 119.9987) as writer:
        writer.write(pictures(1)[0])
    assert os.environ["OPENCV_FFMPEG_LOGLEVEL"] == "-8"
    assert capfd.readouterr().err == ""
