"""Predictions of a video's frames, and their results: another video, or files for each frame.

To reduce flicker, the logits of the frames are averaged over time. The rule, with ``share`` in 0..1 (1 excluded):

    average = (1 - share) * logits of this frame + share * previous average

It is an exponential moving average, in which a frame counts ``share`` times as much as the next one. Each pass of the
model has its own average, at output stride. Logits are averaged rather than probabilities, so that labels, confidence
and probabilities all come from the same numbers; the mean of logits is the geometric mean of probabilities. The average
restarts with

- the first frame,
- a frame of another size,
- a scene cut: shrunk to 32 x 32 pixels, each the mean of its area, two frames differ by more than 30 of 255 on
  average.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import PIL.Image
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segmnv2.errors import ConfigError, MediaError
from segmnv2.inference.scores import Scores
from segmnv2.media.pipeline import END, ManyPredictor, check_batch, predict_in_order, run_pipeline
from segmnv2.media.video_headers import time_stamps
from segmnv2.media.video_reader import Frame, VideoReader
from segmnv2.media.video_writer import video_file

Read = TypeVar("Read")
Made = TypeVar("Made")

DIGITS = 6

EVEN_RATES = (10.0, 15.0, 25.0, 30.0, 50.0, 60.0, 120.0, 144.0, 240.0)
"""Frame rates that are tried if a file's own rate loses frames."""

NEARLY_ALL, LOOKED_AT = 0.95, 10_000
"""Share of the frames that a rate must show, and number of first frames of a file by which it is chosen."""

ROUNDING = 1e-6
"""Tolerance of a time, in frames, so that half frames are all rounded in one direction."""


def infer_video(
    predictor: ManyPredictor[Read, Made],
    video: VideoReader,
    write: Callable[[Frame, Made], object],
    on_done: Callable[[], None] = lambda: None,
    *,
    batch: int = 1,
) -> int:
    """Predict every frame and return their number; frames are read, predicted and written at the same time.

    Args:
        predictor: the model.
        video: the frames; after the last one, its ``fault`` shows whether the video ended too early.
        write: takes each frame and its prediction, in order; called in another thread.
        on_done: called after each frame.
        batch: frames to run at once.

    Raises:
        ConfigError: the results cannot be written, or ``batch`` is not a positive integer.
        MediaError: a frame does not fit in memory.
    """
    done = 0
    outcomes = run_pipeline(
        count(),
        _reader(predictor, video),
        _computer(predictor),
        lambda _, made: write(*made),
        batch=check_batch(batch),
        readers=1,
        writers=1,
    )
    with closing(outcomes):
        for outcome in outcomes:
            if outcome.failure is not None:
                raise outcome.failure
            done += 1
            on_done()
    return done


def predict_frames(predictor: ManyPredictor[Read, Made], video: VideoReader, *, batch: int = 1) -> Iterator[Made]:
    """Yield the prediction of each frame in order, while the next frames are read; close the video at the end.

    Raises:
        MediaError: after the last frame, if the video ended too early; or a frame does not fit in memory.
    """
    frames = predict_in_order(
        count(), _reader(predictor, video), _computer(predictor), batch=check_batch(batch), readers=1
    )
    with video, closing(frames):
        for _, made in frames:
            yield made
    if video.fault is not None:
        raise MediaError(video.fault)


def _reader(predictor: ManyPredictor[Read, Made], video: VideoReader) -> Callable[[int], Any]:
    frames = iter(video)

    def read(_: int) -> Any:
        frame = next(frames, None)
        return END if frame is None else (frame, predictor.prepare(frame.image))

    return read


def _computer(
    predictor: ManyPredictor[Read, Made],
) -> Callable[[Sequence[tuple[Frame, Read]]], list[tuple[Frame, Made]]]:
    def compute(pairs: Sequence[tuple[Frame, Read]]) -> list[tuple[Frame, Made]]:
        made = predictor.predict([prepared for _, prepared in pairs])
        return [(frame, prediction) for (frame, _), prediction in zip(pairs, made, strict=True)]

    return compute


@dataclass
class FrameSink(Generic[Made]):
    """Takes frames with their predictions, in order, and counts them."""

    write: Callable[[Frame, Made], object]
    note: str | None = None  # a message for the user, if there is one
    count: int = 0

    def __call__(self, frame: Frame, made: Made) -> None:
        """Write a frame."""
        self.write(frame, made)
        self.count += 1


@contextmanager
def frame_files(video: VideoReader, write: Callable[[Made, str], object]) -> Iterator[FrameSink[Made]]:
    """Yield a sink that writes files for each frame, named after the video and the frame's number: ``clip_000001``."""
    yield FrameSink(lambda frame, made: write(made, f"{video.source.stem}_{frame.number:0{DIGITS}}"))


@contextmanager
def overlay_video(path: Path, video: VideoReader, draw: Callable[[Made], PIL.Image.Image]) -> Iterator[FrameSink[Made]]:
    """Yield a sink that writes a video of overlays with the frames' size and speed; ``draw`` makes an overlay.

    :func:`segmnv2.media.video_writer.video_file` says which files remain after errors. Frames are written by their
    times. A frame is repeated if the next one is late, so that the result plays at the speed of the original.

    Raises:
        ConfigError: the file cannot be written, or is the video itself.
    """
    if video.source.path is not None and path.resolve() == video.source.path.resolve():
        raise ConfigError(f"{path}: is the input video and would be overwritten; choose another name for the result")
    rate = even_rate(video)
    with video_file(path, video.size, rate) as writer:
        clock = Clock(writer.write, rate)

        def write(frame: Frame, made: Made) -> None:
            clock.write(np.asarray(draw(made)), frame.seconds)

        yield FrameSink(write, writer.note)


def even_rate(video: VideoReader) -> float:
    """Return the frame rate that shows nearly all frames of a video: its own rate, or a higher one.

    For varying intervals, MP4 files state the mean rate, which loses frames where intervals are short.
    """
    if video.source.path is None:
        return video.frame_rate
    times = np.unique(list(islice(time_stamps(video.source.path), LOOKED_AT)))[:: video.every]
    rates = [video.frame_rate, *(rate for rate in EVEN_RATES if rate > video.frame_rate)]
    shown = [len({place_in_time(time, rate) for time in (times - times[:1]).tolist()}) for rate in rates]
    return next(rate for rate, count in zip(rates, shown, strict=True) if count >= NEARLY_ALL * max(shown))


def place_in_time(seconds: float, frame_rate: float) -> int:
    """Return the number, from 0, of the frame at a time."""
    return math.floor(seconds * frame_rate + 0.5 + ROUNDING)


class Clock:
    """Converts images with any times to a constant ``frame_rate`` that begins at 0 seconds."""

    def __init__(self, show: Callable[[UInt8[np.ndarray, "_ _ 3"]], object], frame_rate: float) -> None:
        """Begin at 0 seconds."""
        self.show, self.frame_rate, self.count = show, frame_rate, 0
        self._last: UInt8[np.ndarray, "h w 3"] | None = None

    def write(self, image: UInt8[np.ndarray, "h w 3"], seconds: float) -> None:
        """Show an image at its time; the previous one is repeated until then. An image too soon after it is dropped."""
        due = place_in_time(seconds, self.frame_rate)
        if self._last is not None:
            self._repeat(self._last, due)
        self._repeat(image, due + 1)
        self._last = image

    def _repeat(self, image: UInt8[np.ndarray, "h w 3"], count: int) -> None:
        """Show an image until there are ``count`` in all."""
        while self.count < count:
            self.show(image)
            self.count += 1


THUMBNAIL = 32  # side of the images compared to find scene cuts: at this size, motion within a scene changes little
CUT = 30.0  # mean difference, of 255, above which two frames belong to different scenes


class Smoother:
    """Averages the logits of frames that come in order, by the rule at the top of this file."""

    def __init__(self, share: float) -> None:
        """Begin with no frame, or raise a ConfigError if ``share`` is not in 0..1, 1 excluded."""
        if not 0 <= share < 1:
            raise ConfigError(f"smooth: {share!r} is not in 0..1, 1 excluded; give 0.5 to 0.9, 0 for no smoothing")
        self.share = share
        self._average: list[Float[Tensor, "_ _ _"]] = []
        self._thumbnail: Float[np.ndarray, "a a 3"] | None = None

    def __call__(self, image: UInt8[np.ndarray, "h w 3"], scores: Scores) -> Scores:
        """Return the scores of a frame, RGB 0..255, with its logits averaged."""
        thumbnail = shrink(image)
        grids = [model_pass.grid for model_pass in scores.passes]
        same_sizes = [grid.shape for grid in grids] == [grid.shape for grid in self._average]
        if same_sizes and self._thumbnail is not None and not is_cut(self._thumbnail, thumbnail):
            # In this form, the scores of a still video do not change in any bit.
            grids = [torch.lerp(new, old, self.share) for new, old in zip(grids, self._average, strict=True)]
        self._average, self._thumbnail = grids, thumbnail
        passes = [replace(model_pass, grid=grid) for model_pass, grid in zip(scores.passes, grids, strict=True)]
        return replace(scores, passes=passes)


def shrink(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "a a 3"]:
    """Return the means, 0..255, of 32 x 32 areas of a frame."""
    small = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32)


def is_cut(before: Float[np.ndarray, "a a 3"], after: Float[np.ndarray, "a a 3"]) -> bool:
    """Return whether a new scene begins between two frames, by their thumbnails."""
    return float(np.abs(after - before).mean()) > CUT
