"""Predictor: a model with options, which returns the label map, confidence and overlay of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from jaxtyping import UInt8

from segmnv2.data.image_file import read_image, rgb_array
from segmnv2.engines.backend import Backend, DenseModel, ModelWatch
from segmnv2.errors import MediaError
from segmnv2.hub.resolve import resolve_weights
from segmnv2.inference.canvas import (
    DEFAULT_SIZE,
    Size,
    check_flip,
    check_image,
    check_several,
    check_size,
    choose_scales,
    make_canvas,
)
from segmnv2.inference.options import InferenceOptions
from segmnv2.inference.prediction import Prediction
from segmnv2.inference.scores import PreparedImage, Scores, predict_batch
from segmnv2.media.pipeline import check_batch, predict_in_order, predict_streams
from segmnv2.models.model_file import load_model
from segmnv2.models.segmenter import Segmenter

Smoothing: TypeAlias = Callable[[UInt8[np.ndarray, "h w 3"], Scores], Scores]
"""A frame and its scores -> scores averaged with those of earlier frames."""


class Predictor:
    """Runs a model on images of any kind and size."""

    def __init__(
        self,
        model: Segmenter,
        *,
        size: Size = DEFAULT_SIZE,
        multi_scale: bool | Sequence[float] = False,
        flip: bool = False,
        backend: DenseModel | None = None,
        batch: int = 1,
    ) -> None:
        """Prepare a model in place: it is put in evaluation mode, and its weights in channels-last order.

        Args:
            model: the segmenter; its device and precision are used.
            size: longest side of the model's input in pixels, to which larger images are scaled; or ``"native"``.
            multi_scale: average over six scales, 0.5 to 1.75, for about one point of mIOU and nine times the work; or
                over your own scales, such as ``(0.75, 1.0, 1.25)``; see ``docs/multi_scale.md``.
            flip: average over the mirrored image too. With ``multi_scale`` this is the paper's "MF".
            backend: engine that runs the model, created by :func:`segmnv2.engines.selection.create_backend`. It keeps
                the weights and the output stride of its creation, so a later change of ``model`` is an error.
            batch: images to run at once, if there are several.

        Raises:
            ConfigError: ``size`` is not an integer of at least 17 or ``"native"``; a scale is not above 0; ``batch`` is
                not a positive integer; or the engine has another output stride.
        """
        self.size = check_size(size)
        self.scales = choose_scales(multi_scale)
        self.flip = check_flip(flip)
        self.batch = check_batch(batch)
        self.model = model.eval().to(memory_format=torch.channels_last)  # nearly twice as fast on a CPU
        self.backend: DenseModel = self.model if backend is None else backend
        self._watch = ModelWatch(self.model, self.backend)

    @classmethod
    def load(cls, path: str | Path, options: InferenceOptions | None = None, **values: Any) -> Predictor:
        """Return the predictor of a model file.

        Args:
            path: safetensors file of ``segmnv2 import`` or of training, a short name such as ``voc_mobilenet_v2``, or
                ``owner/name`` on the Hugging Face Hub; see :func:`segmnv2.hub.resolve.resolve_weights`.
            options: options of inference.
            values: options by name, such as ``backend="auto"``; see
                :class:`segmnv2.inference.options.InferenceOptions`.

        Raises:
            ConfigError: a value is not possible, or the device is missing.
            WeightsError: the file is missing or damaged, or does not describe a model.
        """
        chosen = InferenceOptions.of(options, values)
        return cls.of(load_model(resolve_weights(path)), chosen)

    @classmethod
    def of(cls, model: Segmenter, options: InferenceOptions | None = None, **values: Any) -> Predictor:
        """Return a predictor that runs a model by options.

        Args:
            model: the segmenter; it is moved to the options' device, and gets their output stride.
            options: options of inference.
            values: options by name, as for :meth:`load`.

        Raises:
            ConfigError: a value is not possible, or the device is missing.
        """
        chosen = InferenceOptions.of(options, values)
        if chosen.output_stride is not None:
            model.set_output_stride(chosen.output_stride)
        return cls(
            model,
            size=chosen.size,
            multi_scale=chosen.scales,
            flip=chosen.flip,
            backend=chosen.prepare(model),
            batch=chosen.batch,
        )

    @property
    def streams(self) -> int:
        """Number of images computed at once, if there are several."""
        return self.backend.streams if isinstance(self.backend, Backend) else 1

    def __call__(self, image: str | Path | PIL.Image.Image | npt.NDArray[Any]) -> Prediction:
        """Label each pixel of an image.

        Args:
            image: a file, a PIL image of any mode, or a uint8 RGB array, 0..255, (H, W, 3), or (H, W) if gray. OpenCV's
                arrays are BGR: reverse their last axis first.

        Raises:
            MediaError: the file cannot be read, the array is of another type or shape, or there is not enough memory.
        """
        (prediction,) = self.predict([self.prepare(image)])
        return prediction

    def predict_many(
        self, images: Iterable[str | Path | PIL.Image.Image | npt.NDArray[Any]], *, batch: int | None = None
    ) -> Iterator[Prediction]:
        """Label images, ``streams`` of them at once; the next images are read at the same time.

        Args:
            images: any kinds, as for a single image. Only a few are read ahead, so they may be endless. Arrays and PIL
                images are copied, so a generator may change one and yield it again.
            batch: images to run at once, by default as for the predictor; see
                :func:`segmnv2.inference.scores.predict_batch` on rounding. 1 is fastest on a CPU, because its caches
                hold the features of one image only; try 8 on a GPU.

        Yields:
            One prediction per image, in order.

        Raises:
            ConfigError: ``batch`` is not a positive integer.
            MediaError: ``images`` is a single image. Other reasons are those of a call, at the turn of the image.
        """
        size = self.batch if batch is None else check_batch(batch)
        images = map(copy_image, check_several(images))
        run = predict_in_order if self.streams == 1 else partial(predict_streams, streams=self.streams)
        return run(images, self.prepare, self.predict, batch=size)

    def predict_video(
        self,
        source: str | Path | int,
        *,
        every: int = 1,
        frames: int | None = None,
        seconds: float | None = None,
        smooth: float = 0.0,
        batch: int | None = None,
    ) -> Iterator[Prediction]:
        """Label the frames of a video file or a camera; the next frames are read at the same time.

        Args:
            source: a file, ``"camera:N"``, or the number of a camera.
            every: label each n-th frame, from the first on.
            frames: stop after this number of labeled frames.
            seconds: stop after this time.
            smooth: weight of earlier frames in a frame's labels, 0 to 1, 1 excluded; the rule is in
                :mod:`segmnv2.inference.video_files`.
            batch: frames to run at once, by default as for the predictor.

        Yields:
            One prediction per frame, in order.

        Raises:
            ConfigError: a number is out of range.
            MediaError: there is no such file or camera, or no frame; or, after the last frame, the video is truncated
                or the camera lost.
        """
        from segmnv2.inference.video_files import Smoother, predict_frames
        from segmnv2.media.video_reader import VideoReader

        predictor = VideoPredictor(self, Smoother(smooth))
        size = self.batch if batch is None else check_batch(batch)
        return predict_frames(predictor, VideoReader(source, every=every, frames=frames, seconds=seconds), batch=size)

    def prepare(self, image: str | Path | PIL.Image.Image | npt.NDArray[Any]) -> PreparedImage:
        """Read an image and make the model's input; several threads may do this at once.

        Args:
            image: as for a call.

        Raises:
            MediaError: the file cannot be read, the array is of another type or shape, or there is not enough memory.
        """
        source = str(image) if isinstance(image, str | Path) else "image"
        pixels = load_pixels(image)
        try:
            canvas = make_canvas(pixels, self.size, self.backend.output_stride, self.backend.mean_pixel)
        except (MemoryError, ValueError) as error:  # ValueError: larger than an array can be
            raise MediaError(self._too_large(pixels, source)) from error
        return PreparedImage(pixels, canvas, source)

    def predict(self, prepared: Sequence[PreparedImage], smoother: Smoothing | None = None) -> list[Prediction]:
        """Label prepared images; those with canvases of one size run together.

        Args:
            prepared: results of :meth:`prepare`.
            smoother: smoother for the frames of a video, which must come in order.

        Raises:
            ConfigError: the model was changed after its engine was created.
            MediaError: there is not enough memory.
            SegmnError: the logits are not finite.
        """
        self._watch.check()
        try:
            canvases = [item.canvas for item in prepared]
            results = predict_batch(self.backend, canvases, scales=self.scales, flip=self.flip)
            for item, scores in zip(prepared, results, strict=True):
                scores.check_finite(item.source)
            if smoother is not None:
                results = [smoother(item.image, scores) for item, scores in zip(prepared, results, strict=True)]
            return [
                Prediction(item.image, scores.labels(), self.model.labels, scores)
                for item, scores in zip(prepared, results, strict=True)
            ]
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            raise MediaError(self._too_large(prepared[0].image, prepared[0].source, len(prepared))) from error

    def _too_large(self, image: UInt8[np.ndarray, "h w 3"], source: str, count: int = 1) -> str:
        height, width = image.shape[:2]
        names, remedy = source, f"give a smaller size, such as {DEFAULT_SIZE}"
        if count > 1:
            names, remedy = f"{source} and {count - 1} more at once", "give a smaller batch"
        return f"{names}: {width}x{height} pixels at size {self.size!r} do not fit in memory; {remedy}"


@dataclass(frozen=True)
class VideoPredictor:
    """Predictor for the frames of one video, in order; ``smoother`` holds the average of earlier frames."""

    predictor: Predictor
    smoother: Smoothing

    def prepare(self, image: str | Path | PIL.Image.Image | npt.NDArray[Any]) -> PreparedImage:
        """Read a frame and make the model's input; see :meth:`Predictor.prepare`."""
        return self.predictor.prepare(image)

    def predict(self, prepared: Sequence[PreparedImage]) -> list[Prediction]:
        """Label the next frames; see :meth:`Predictor.predict`."""
        return self.predictor.predict(prepared, self.smoother)


def copy_image(image: Any) -> Any:
    """Return a copy of an image, so that the caller may change it; paths are returned unchanged."""
    if isinstance(image, PIL.Image.Image):
        with suppress(MediaError):  # the error is raised at the image's turn
            return load_pixels(image)
    return image.copy() if isinstance(image, np.ndarray) else image


def load_pixels(image: object) -> UInt8[np.ndarray, "h w 3"]:
    """Return the RGB pixels (H, W, 3), 0..255, of a file, a PIL image or an array, as a new array."""
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, PIL.Image.Image):
        try:
            return rgb_array(image)
        except (OSError, ValueError) as error:  # PIL decodes a file when its pixels are first needed
            raise MediaError(f"image: the PIL image cannot be decoded ({error}); open an undamaged file") from error
    return check_image(image).copy()


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether memory ran out; torch's CPU allocator reports this as a plain RuntimeError."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "not enough memory" in str(error) or "allocate memory" in str(error)
