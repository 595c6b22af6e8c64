from __future__ import annotations

import math
import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segmnv2.errors import ConfigError, MediaError
from segmnv2.inference.files import ResultFolder
from segmnv2.inference.prediction import Prediction
from segmnv2.inference.predictor import Predictor, VideoPredictor
from segmnv2.inference.video_files import Smoother, even_rate, frame_files, infer_video, overlay_video, place_in_time
from segmnv2.media import video_reader as video_module
from segmnv2.media.video_reader import VideoReader
from tests.media.clips import Camera, decode, pictures, write_clip, write_recording


@pytest.fixture
def predictor(small_model) -> Predictor:
    return Predictor(small_model, size=33)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return write_clip(tmp_path / "in" / "clip.avi", pictures(9))


@pytest.mark.parametrize("batch", [1, 4])
def test_predictions_of_a_video_are_those_of_its_frames(batch, predictor, clip):
    frames = decode(clip)
    found = list(predictor.predict_video(clip, batch=batch))
    assert len(found) == len(frames)
    for frame, prediction in zip(frames, found, strict=True):
        assert np.array_equal(prediction.image, frame)
        assert np.array_equal(prediction.mask, predictor(frame).mask)
    skipped = list(predictor.predict_video(str(clip), every=4, batch=batch))
    assert [np.array_equal(a.mask, b.mask) for a, b in zip(skipped, found[::4], strict=True)] == [True] * 3


@pytest.mark.parametrize("batch", [1, 4])
def test_smoothing_does_not_depend_on_the_batch(batch, predictor, clip):
    smoother = Smoother(0.8)
    expected = [predictor.predict([predictor.prepare(frame)], smoother)[0].mask for frame in decode(clip)]
    found = list(predictor.predict_video(clip, smooth=0.8, batch=batch))
    assert [np.array_equal(a, b.mask) for a, b in zip(expected, found, strict=True)] == [True] * 9


def test_each_frame_becomes_a_palette_mask_with_its_number(predictor, clip, tmp_path):
    results = ResultFolder(tmp_path / "out", overlay=False)
    with VideoReader(clip, every=4) as video, frame_files(video, results.write) as sink:
        assert infer_video(predictor, video, sink) == sink.count == 3
    paths = sorted((tmp_path / "out").rglob("*.*"))
    assert [path.name for path in paths] == [f"clip_00000{number}.png" for number in (1, 5, 9)]
    for path, frame in zip(paths, decode(clip)[::4], strict=True):
        mask = Image.open(path)
        assert mask.mode == "P"
        assert np.array_equal(np.asarray(mask), predictor(frame).mask)


def test_a_video_of_overlays_shows_each_frame_with_its_colors(predictor, clip, tmp_path):
    out = tmp_path / "out.avi"
    done: list[None] = []

    def draw(prediction: Prediction) -> Image.Image:
        return prediction.overlay(1.0, legend=False)

    with VideoReader(clip) as video, overlay_video(out, video, draw) as sink:
        infer_video(predictor, video, sink, lambda: done.append(None), batch=2)
    assert (len(done), sink.count, sink.note) == (9, 9, None)
    shown = decode(out)
    assert len(shown) == 9
    for frame, picture in zip(decode(clip), shown, strict=True):
        drawn = np.asarray(predictor(frame).overlay(1.0, legend=False)).astype(int)
        assert picture.shape == drawn.shape
        assert np.abs(picture - drawn).mean() < 16


def test_a_recording_with_varying_intervals_keeps_its_speed(predictor, tmp_path):
    times = [0, 100, 250, 300, 700, 1200, 1300, 1350, 2000, 2600, 3300, 4000]
    clip = write_recording(tmp_path / "clip.mkv", times, 4100)
    numbers = iter(range(12))
    label(
        predictor, clip, tmp_path / "out.avi", lambda made: Image.new("L", (48, 32), 20 * next(numbers)).convert("RGB")
    )
    rate = VideoReader(clip).frame_rate
    shown = [round(picture.mean() / 20) for picture in decode(tmp_path / "out.avi")]
    assert len(shown) == round(4.0 * rate) + 1
    for number, time in enumerate(times):
        assert shown[round(time / 1000 * rate)] == number


@pytest.mark.parametrize("rate", [60, 90, 144, 165, 240])
def test_recordings_of_fast_screens_show_all_their_frames(rate, tmp_path):
    times = [round(1000 * number / rate) for number in range(12)]
    clip = write_recording(tmp_path / "clip.mkv", times, times[-1] + 5)
    with VideoReader(clip) as video:
        shown = {place_in_time(time / 1000, even_rate(video)) for time in times}
    assert len(shown) == len(times)


@pytest.mark.parametrize(("every", "rate"), [(1, 25.0), (2, 10.0)])
def test_frames_faster_than_the_stated_mean_are_shown(every, rate, predictor, tmp_path):
    times = [0, 40, 80, 580, 620, 660, 1660, 1700, 1780, 1820]
    clip = write_recording(tmp_path / "clip.mkv", times, 1900, rate=5.5)
    numbers = iter(range(10))
    out = tmp_path / "out.avi"

    def draw(made: Prediction) -> Image.Image:
        return Image.new("L", (48, 32), 20 * next(numbers)).convert("RGB")

    with VideoReader(clip, every=every) as video, overlay_video(out, video, draw) as sink:
        assert video.frame_rate == pytest.approx(5.5 / every, rel=0.01)
        infer_video(predictor, video, sink)
    pictures = [round(picture.mean() / 20) for picture in decode(out)]
    assert sorted(set(pictures)) == list(range(sink.count))
    assert [pictures[math.floor(time / 1000 * rate + 0.51)] for time in times[::every]] == list(range(sink.count))


def test_frames_after_the_limit_are_not_read_from_an_endless_camera(predictor, clip, monkeypatch):
    camera = Camera(clip, endless=True)
    monkeypatch.setattr(video_module, "_open", lambda source: camera)
    assert len(list(predictor.predict_video(0, frames=5))) == 5
    assert camera.place == 5
    monkeypatch.setattr(video_module, "_open", lambda source: Camera(clip, endless=True))
    some = predictor.predict_video("camera:0")
    assert len(list(islice(some, 3))) == 3
    some.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("segmnv2")]


def test_an_early_end_is_an_error_after_the_last_frame(predictor, clip, monkeypatch):
    monkeypatch.setattr(video_module, "_open", lambda source: Camera(clip))
    found = predictor.predict_video(0)
    assert len(list(islice(found, 9))) == 9
    with pytest.raises(MediaError, match="camera 0: gives no more frames after 9"):
        next(found)


def test_an_error_in_writing_leaves_nothing(predictor, clip, tmp_path):
    def draw(prediction):
        raise OSError(28, "No space left on device")

    with pytest.raises(ConfigError, match=r"out\.mp4: the video cannot be written \(No space left"):
        label(predictor, clip, tmp_path / "out" / "out.mp4", draw)
    assert list((tmp_path / "out").iterdir()) == []


def label(predictor, clip, out, draw) -> None:
    with VideoReader(clip) as video, overlay_video(out, video, draw) as sink:
        infer_video(predictor, video, sink)


def test_a_frame_that_does_not_fit_in_memory_ends_the_run(predictor, clip, tmp_path, monkeypatch):
    def fail(pixels):
        raise MemoryError

    monkeypatch.setattr(predictor.model, "raw_logits", fail)
    with pytest.raises(MediaError, match="image: 48x32 pixels"):
        label(predictor, clip, tmp_path / "out.mp4", lambda prediction: prediction.overlay(legend=False))
    assert not (tmp_path / "out.mp4").exists()


def test_options_are_checked_at_once(predictor, clip):
    for options, message in (({"smooth": 1.0}, "smooth"), ({"batch": 0}, "batch"), ({"every": 0}, "every")):
        with pytest.raises(ConfigError, match=message):
            predictor.predict_video(clip, **options)
    with pytest.raises(MediaError, match="no such file"):
        predictor.predict_video(clip.with_name("gone.mp4"))
    assert VideoPredictor(predictor, Smoother(0)).prepare(decode(clip)[0]).source == "image"
