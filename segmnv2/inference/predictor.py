"""A model prepared for use: an image in, a label map with its confidence and overlay out."""

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
from segmnv2.inference.scores import Prediction, PreparedImage, Scores, predict_batch
from segmnv2.media.pipeline import check_batch, predict_in_order, predict_streams
from segmnv2.models.model_file import load_model
from segmnv2.models.segmenter import Segmenter

Smoothing: TypeAlias = Callable[[UInt8[np.ndarray, "h w 3"], Scores], Scores]
"""A frame and its scores -> scores that those of the frames before are in."""


class Predictor:
    """Calls a model on images of any kind and size."""

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
        """Make a model ready; it is put in evaluation mode and its weights in channels-last order, in place.

        Args:
            model: the network; predictions are made on its device, in its precision.
            size: longest side of the network's input in pixels, larger images being scaled down, or ``"native"``.
            multi_scale: average over six scales, 0.5 to 1.75, for about one point of mIOU and nine times the work; or
                over scales of your own, as ``(0.75, 1.0, 1.25)``; see ``docs/multi_scale.md``.
            flip: average over the mirrored image too. With ``multi_scale`` this is the paper's "MF".
            backend: what runs the network in its place, made by :func:`segmnv2.engines.selection.create_backend`. It
                keeps the weights and the output stride of that moment, so a change of ``model`` afterwards is an error.
            batch: number of images per call, if there are many.

        Raises:
            ConfigError: ``size`` is not an integer of at least 17 or ``"native"``, a scale is not above 0, ``batch`` is
                not a positive integer, or the engine has another output stride.
        """
        self.size = check_size(size)
        self.scales = choose_scales(multi_scale)
        self.flip = check_flip(flip)
        self.batch = check_batch(batch)
        self.model = model.eval().to(memory_format=torch.channels_last)  # the CPU's fast layout, nearly twice as fast
        self.backend: DenseModel = self.model if backend is None else backend
        self._watch = ModelWatch(self.model, self.backend)

    @classmethod
    def load(cls, path: str | Path, options: InferenceOptions | None = None, **values: Any) -> Predictor:
        """Build the predictor of a model file.

        Args:
            path: safetensors file of ``segmnv2 import`` or of training, a short name as ``voc_mobilenet_v2``, or
                ``owner/name`` on the Hugging Face Hub; see :func:`segmnv2.hub.resolve.resolve_weights`.
            options: how the network is run.
            values: the same by name, as ``backend="auto"``; see
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
            model: the network; it is moved to the options' device, and has their output stride from then on.
            options: how the network is run.
            values: the same by name, as for :meth:`load`.

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
        """Number of images computed at once where there are many."""
        return self.backend.streams if isinstance(self.backend, Backend) else 1

    def __call__(self, image: str | Path | PIL.Image.Image | npt.NDArray[Any]) -> Prediction:
        """Label each pixel of an image.

        Args:
            image: a file, a PIL image of any mode, or a uint8 RGB array, 0..255, (H, W, 3), or (H, W) if gray. OpenCV's
                arrays are BGR: reverse their last axis first.

        Raises:
            MediaError: the file cannot be read, the array is of another type or shape, or memory does not suffice.
        """
        (prediction,) = self.predict([self.prepare(image)])
        return prediction

    def predict_many(
        self, images: Iterable[str | Path | PIL.Image.Image | npt.NDArray[Any]], *, batch: int | None = None
    ) -> Iterator[Prediction]:
        """Label images, reading the next ones meanwhile, as many at once as the predictor has ``streams``.

        Args:
            images: any kinds, as for a single one; drawn a few ahead, so they may be endless. Arrays and PIL images
                are copied when they are drawn, so that a generator may refill one.
            batch: how many to run at once, the predictor's by default; see
                :func:`segmnv2.inference.scores.predict_batch` on rounding. 1 is fastest on a CPU, whose caches hold
                one image's features better than several; try 8 on a GPU.

        Yields:
            One prediction each, in order.

        Raises:
            ConfigError: ``batch`` is not a positive integer.
            MediaError: ``images`` is a single one; or as for a single image, at its turn; none follows it.
        """
        size = self.batch if batch is None else check_batch(batch)
        images = map(own_image, check_several(images))
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
        """Label the frames of a video file or a camera, reading the next ones meanwhile.

        Args:
            source: a file, ``"camera:N"``, or the number of a camera.
            every: label each n-th frame, from the first on.
            frames: end after so many.
            seconds: end after that time.
            smooth: how much of the frames before is in a frame's labels, 0 to 1, excluded; the rule is in
                :mod:`segmnv2.inference.video_files`.
            batch: how many to run at once, the predictor's by default.

        Yields:
            One prediction a frame, in order.

        Raises:
            ConfigError: a number is not possible.
            MediaError: there is no such file or camera, or no frame; or, after the last frame, the video is truncated
                or the camera lost.
        """
        from segmnv2.inference.video_files import Smoother, predict_frames
        from segmnv2.media.video_reader import VideoReader

        predictor = VideoPredictor(self, Smoother(smooth))
        size = self.batch if batch is None else check_batch(batch)
        return predict_frames(predictor, VideoReader(source, every=every, frames=frames, seconds=seconds), batch=size)

    def prepare(self, image: str | Path | PIL.Image.Image | npt.NDArray[Any]) -> PreparedImage:
        """Read an image and lay it out for the network, which several threads may do at once.

        Args:
            image: as for a call.

        Raises:
            MediaError: the file cannot be read, the array is of another type or shape, or memory does not suffice.
        """
        source = str(image) if isinstance(image, str | Path) else "image"
        pixels = load_pixels(image)
        try:
            canvas = make_canvas(pixels, self.size, self.backend.output_stride, self.backend.mean_pixel)
        except (MemoryError, ValueError) as error:  # ValueError: larger than an array can be
            raise MediaError(self._too_large(pixels, source)) from error
        return PreparedImage(pixels, canvas, source)

    def predict(self, prepared: Sequence[PreparedImage], smoother: Smoothing | None = None) -> list[Prediction]:
        """Label prepared images, those with canvases of one size at once.

        Args:
            prepared: results of :meth:`prepare`.
            smoother: smoother for the frames of a video, which must come in order.

        Raises:
            ConfigError: the model was changed after the engine was made of it.
            MediaError: memory does not suffice.
            SegmnError: the logits are not finite.
        """
        self._watch.check()
        try:
            canvases = [each.canvas for each in prepared]
            found = predict_batch(self.backend, canvases, scales=self.scales, flip=self.flip)
            for each, scores in zip(prepared, found, strict=True):
                scores.check_finite(each.source)
            if smoother is not None:
                found = [smoother(each.image, scores) for each, scores in zip(prepared, found, strict=True)]
            return [
                Prediction(each.image, scores.labels(), self.model.labels, scores)
                for each, scores in zip(prepared, found, strict=True)
            ]
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            raise MediaError(self._too_large(prepared[0].image, prepared[0].source, len(prepared))) from error

    def _too_large(self, image: UInt8[np.ndarray, "h w 3"], source: str, count: int = 1) -> str:
        height, width = image.shape[:2]
        what, remedy = source, f"give a smaller size, as {DEFAULT_SIZE}"
        if count > 1:
            what, remedy = f"{source} and {count - 1} more at once", "give a smaller batch"
        return f"{what}: {width}x{height} pixels at size {self.size!r} do not fit in memory; {remedy}"


@dataclass(frozen=True)
class VideoPredictor:
    """A predictor for the frames of one video, in order; ``smoother`` has seen the frames before."""

    predictor: Predictor
    smoother: Smoothing

    def prepare(self, image: str | Path | PIL.Image.Image | npt.NDArray[Any]) -> PreparedImage:
        """Read a frame and lay it out; see :meth:`Predictor.prepare`."""
        return self.predictor.prepare(image)

    def predict(self, prepared: Sequence[PreparedImage]) -> list[Prediction]:
        """Label the next frames; see :meth:`Predictor.predict`."""
        return self.predictor.predict(prepared, self.smoother)


def own_image(image: Any) -> Any:
    """Return a copy of an image, so that the caller may change it; paths are returned unchanged."""
    if isinstance(image, PIL.Image.Image):
        with suppress(MediaError):  # which is raised at the image's turn
            return load_pixels(image)
    return image.copy() if isinstance(image, np.ndarray) else image


def load_pixels(image: object) -> UInt8[np.ndarray, "h w 3"]:
    """Return RGB pixels (H, W, 3), 0..255, of a file, a PIL image or an array, in memory of their own."""
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, PIL.Image.Image):
        try:
            return rgb_array(image)
        except (OSError, ValueError) as error:  # PIL decodes a file when its pixels are first needed
            raise MediaError(f"image: the PIL image cannot be decoded ({error}); open a whole file") from error
    return check_image(image).copy()


def _is_out_of_memory(error: Exception) -> bool:
    """Distinguish a lack of memory, which torch's CPU allocator reports as a plain RuntimeError, from other errors."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "not enough memory" in str(error) or "allocate memory" in str(error)
