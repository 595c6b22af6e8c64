from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from segmnv2.errors import ConfigError, MediaError
from segmnv2.media import video_reader as video_module
from segmnv2.media.inputs import VideoSource, find_video
from segmnv2.media.video_reader import USUAL_RATE, VideoReader
from tests.media.clips import CODECS, RATE, Camera, decode, pictures, write_clip, write_recording


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.avi")


@pytest.mark.parametrize("ending", CODECS)
def test_frames_equal_opencvs_in_rgb(ending, tmp_path):
    clip = write_clip(tmp_path / f"clip{ending}")
    with VideoReader(clip) as video:
        frames = list(video)
        assert (video.size, video.frame_rate, video.total, video.fault) == ((48, 32), RATE, 12, None)
    assert [frame.number for frame in frames] == list(range(1, 13))
    assert [frame.seconds for frame in frames] == pytest.approx([number / RATE for number in range(12)])
    for frame, expected in zip(frames, decode(clip), strict=True):
        assert np.array_equal(frame.image, expected)
    red, _, blue = frames[0].image[30, 40].astype(int)
    assert red > blue + 60, "colors are in the order of RGB"


@pytest.mark.parametrize(
    ("options", "numbers", "rate"),
    [
        ({"every": 1}, range(1, 13), RATE),
        ({"every": 3}, [1, 4, 7, 10], RATE / 3),
        ({"every": 5}, [1, 6, 11], RATE / 5),
        ({"every": 100}, [1], RATE / 100),
        ({"frames": 5}, range(1, 6), RATE),
        ({"every": 2, "frames": 3}, [1, 3, 5], RATE / 2),
        ({"frames": 99}, range(1, 13), RATE),
        ({"seconds": 0.45}, range(1, 6), RATE),
        ({"every": 2, "seconds": 0.5}, [1, 3, 5], RATE / 2),
        ({"seconds": 0.001}, [1], RATE),
        ({"seconds": 60, "frames": 2}, [1, 2], RATE),
    ],
    ids=str,
)
def test_frames_are_skipped_and_limited_and_the_total_is_known(options, numbers, rate, clip):
    whole = decode(clip)
    with VideoReader(clip, **options) as video:
        total = video.total
        frames = list(video)
        assert video.fault is None
    assert [frame.number for frame in frames] == list(numbers)
    assert total == len(frames)
    assert video.frame_rate == pytest.approx(rate)
    for frame in frames:
        assert np.array_equal(frame.image, whole[frame.number - 1])


@pytest.mark.parametrize("stated", [0, 3, 11, 13])
def test_a_missing_or_wrong_count_in_the_header_changes_no_frame(stated, clip):
    tell(clip, stated)
    with VideoReader(clip) as video:
        assert len(list(video)) == 12
        assert video.fault is None
        assert video.total == (stated or None)


def test_a_file_that_ends_early_gives_its_frames_and_a_fault(clip):
    tell(clip, 40)
    with VideoReader(clip) as video:
        assert len(list(video)) == 12
        assert "ends after 12 frames at 1.10 s, but its header states 4.00 s" in (video.fault or "")
    with VideoReader(clip, frames=4) as video:
        assert len(list(video)) == 4
        assert video.fault is None


def tell(clip: Path, count: int) -> None:
    """Change the number of frames in the header of an AVI file."""
    content = bytearray(clip.read_bytes())
    for chunk, place in ((b"strh", 32), (b"avih", 16)):
        start = content.index(chunk) + 8 + place
        content[start : start + 4] = struct.pack("<I", count)
    clip.write_bytes(content)


def test_a_truncated_file_gives_its_frames(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", pictures(20))
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with VideoReader(clip) as video:
        count = len(list(video))
        assert 0 < count < 20
        assert f"ends after {count} frames" in (video.fault or "")
        assert "its header states 2.00 s" in (video.fault or "")


VARIABLE = [0, 100, 250, 300, 700, 1200, 1300, 1350, 2000, 2600, 3300, 4000]
"""Times in ms of a screen recording, which writes a frame when something moves."""


@pytest.mark.parametrize("length", [None, 4100, 9000], ids=["unstated", "stated", "a still screen at the end"])
def test_times_are_those_of_time_stamps(length, tmp_path):
    clip = write_recording(tmp_path / "clip.mkv", VARIABLE, length)
    with VideoReader(clip) as video:
        frames = list(video)
        assert video.fault is None
    assert [round(1000 * frame.seconds) for frame in frames] == VARIABLE
    for seconds, count in ((0.25, 2), (1.3, 6), (2, 8), (2.001, 9), (60, 12)):
        with VideoReader(clip, seconds=seconds) as video:
            assert len(list(video)) == count
    with VideoReader(clip, every=5) as video:
        assert [round(1000 * frame.seconds) for frame in video] == [0, 1200, 3300]


def test_a_truncated_recording_of_any_rate_is_reported(tmp_path):
    clip = write_recording(tmp_path / "clip.mkv", VARIABLE, 4100)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with VideoReader(clip) as video:
        count = len(list(video))
        assert 0 < count < 12
        assert "its header states 4.10 s" in (video.fault or "")


@pytest.mark.parametrize("stamp", [0.0, -1e6, 1e12, float("nan")])
def test_frames_without_valid_time_stamps_come_at_the_stated_rate(stamp, clip, monkeypatch):
    class Stampless:
        def __init__(self, capture):
            self.capture = capture

        def get(self, name):
            return stamp if name == cv2.CAP_PROP_POS_MSEC else self.capture.get(name)

        def __getattr__(self, name):
            return getattr(self.capture, name)

    opened = video_module._open
    monkeypatch.setattr(video_module, "_open", lambda source: Stampless(opened(source)))
    with VideoReader(clip) as video:
        assert [frame.seconds for frame in video] == pytest.approx([number / RATE for number in range(12)])
        assert video.fault is None


@pytest.mark.parametrize("place", [150, 300, 350])
def test_damaged_frames_are_skipped_and_the_others_keep_their_numbers(place, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", pictures(20))
    whole = decode(clip)
    content = bytearray(clip.read_bytes())
    start = content.index(b"mdat") + place
    content[start : start + 40] = bytes(40)
    clip.write_bytes(content)
    with VideoReader(clip) as video:
        frames = list(video)
        assert video.fault is None
    numbers = [frame.number for frame in frames]
    assert 16 <= len(numbers) < 20
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 20
    assert np.abs(frames[-1].image.astype(int) - whole[-1]).mean() < 3


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda image: np.rot90(image, 2).swapaxes(0, 1)),
    ],
    ids=["quarter", "half", "three quarters", "left to right", "upside down", "transposed", "transverse"],
)
@pytest.mark.parametrize(("box", "ending"), [(b"tkhd", ".mp4"), (b"tkhd", ".mov"), (b"mvhd", ".mp4")])
def test_rotation_and_mirroring_of_a_file_are_applied(matrix, turned, box, ending, tmp_path):
    clip = write_clip(tmp_path / f"clip{ending}")
    upright = decode(clip)
    content = bytearray(clip.read_bytes())
    place = content.index(box) + 4 + (40 if box == b"tkhd" else 36)  # the matrix of the track or the movie, in 16.16
    a, b, c, d = (number << 16 for number in matrix)
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    clip.write_bytes(content)
    with VideoReader(clip) as video:
        frames = list(video)
    height, width = turned(upright[0]).shape[:2]
    assert video.size == (width, height)
    for frame, image in zip(frames, upright, strict=True):
        assert np.array_equal(frame.image, turned(image))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", r"is empty \(0 bytes\)"),
        (b"plain text, no video", "is not a video that can be read.*b'plain text, '"),
    ],
)
def test_a_file_that_is_not_a_video_is_one_clear_error(content, message, tmp_path):
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError, match=rf"clip\.mp4: {message}"):
        VideoReader(path)


def test_a_folder_and_a_recording_without_its_index_are_rejected(tmp_path):
    with pytest.raises(MediaError, match=r"cannot be read \(Is a directory\)"):
        VideoReader(tmp_path)
    clip = write_clip(tmp_path / "clip.mp4")
    clip.write_bytes(clip.read_bytes()[:-600])
    with pytest.raises(MediaError, match="it may be truncated"):
        VideoReader(clip)


def test_a_video_without_a_frame_is_rejected(clip, monkeypatch):
    monkeypatch.setattr(VideoReader, "_read", lambda self, place: None)
    with pytest.raises(MediaError, match="has no frame that can be decoded"):
        VideoReader(clip)


def test_opencv_prints_nothing_about_reported_faults(tmp_path, capfd):
    (tmp_path / "clip.mp4").write_bytes(b"plain text")
    level = cv2.utils.logging.getLogLevel()
    for source in (tmp_path / "clip.mp4", 77):
        with pytest.raises(MediaError):
            VideoReader(source)
    assert capfd.readouterr().err == ""
    assert cv2.utils.logging.getLogLevel() == level


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), 90000.0])
def test_the_default_frame_rate_replaces_a_missing_one(rate, clip, monkeypatch):
    capture = Camera(clip)
    monkeypatch.setattr(capture, "get", lambda prop: rate)
    monkeypatch.setattr(video_module, "_open", lambda source: capture)
    with VideoReader(clip) as video:
        assert video.frame_rate == USUAL_RATE


def test_a_camera_is_read_to_a_limit_by_the_clock(clip, monkeypatch):
    monkeypatch.setattr(video_module, "_open", lambda source: Camera(clip, endless=True))
    ticks = iter(np.arange(0, 100, 0.25).tolist())
    monkeypatch.setattr("segmnv2.media.video_reader.time.monotonic", lambda: next(ticks))
    with VideoReader("camera:0", frames=30) as video:
        assert (video.total, str(video.source)) == (30, "camera 0")
        assert len(list(video)) == 30
    with VideoReader(0, seconds=1.9) as video:
        assert video.total is None
        assert [frame.seconds for frame in video] == pytest.approx(np.arange(0, 1.9, 0.25).tolist())
        assert video.fault is None


def test_a_lost_or_missing_camera_is_reported(clip, monkeypatch):
    with pytest.raises(MediaError, match="camera 77: is not there"):
        VideoReader(77)
    monkeypatch.setattr(video_module, "_open", lambda source: Camera(clip))
    with VideoReader(0) as video:
        assert len(list(video)) == 12
        assert "camera 0: gives no more frames after 12" in (video.fault or "")
    monkeypatch.setattr(VideoReader, "_read", lambda self, place: None)
    with pytest.raises(MediaError, match="camera 0: is connected but gives no image"):
        VideoReader(0)


@pytest.mark.parametrize(
    "options", [{"every": 0}, {"frames": 0}, {"seconds": 0}, {"seconds": float("nan")}, {"every": True}]
)
def test_numbers_must_be_positive(options, clip):
    with pytest.raises(ConfigError, match=next(iter(options))):
        VideoReader(clip, **options)


@pytest.mark.parametrize(
    ("word", "source"),
    [
        ("clip.mp4", VideoSource(Path("clip.mp4"))),
        ("a/CLIP.MOV", VideoSource(Path("a/CLIP.MOV"))),
        (Path("x.webm"), VideoSource(Path("x.webm"))),
        ("camera:0", VideoSource(None, 0)),
        ("camera:12", VideoSource(None, 12)),
        ("3", VideoSource(None, 3)),
        (2, VideoSource(None, 2)),
        ("photo.jpg", None),
        ("folder", None),
        ("*.png", None),
        ("clip.gif", None),
    ],
)
def test_words_select_videos_cameras_or_images(word, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_video(word) == source


def test_a_number_that_names_a_file_is_not_a_camera(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("0").touch()
    assert find_video("0") is None
    assert find_video("camera:0") == VideoSource(None, 0)
    with pytest.raises(MediaError, match="camera:front: is not a camera"):
        find_video("camera:front")
