"""Options of inference for the predictor and the commands, and images for the calibration of int8."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segmnv2.data.image_file import read_image
from segmnv2.engines.backend import Backend, Place, check_precision, check_streams, check_threads
from segmnv2.engines.selection import build_backend, check_calibration, choose_device, choose_engine, refuse_streams
from segmnv2.errors import ConfigError
from segmnv2.inference.canvas import (
    DEFAULT_SIZE,
    MEAN_PIXEL,
    Size,
    check_flip,
    check_image,
    check_several,
    check_size,
    choose_scales,
    make_canvas,
    scale_pixels,
)
from segmnv2.media.inputs import list_images, pick_evenly
from segmnv2.media.pipeline import check_batch
from segmnv2.models.segmenter import Segmenter
from segmnv2.nn.stride import check_output_stride

MOST = 100  # images of a folder that are used; more take longer and change little
LARGEST_SIDE = 1025  # pixels; larger canvases run in one stream by default, because each stream needs memory for one


def calibration_pixels(
    images: str | Path | Sequence[UInt8[np.ndarray, "_ _ 3"]],
    output_stride: int,
    *,
    size: Size = DEFAULT_SIZE,
    scales: Sequence[float] = (1.0,),
    mean_pixel: Sequence[float] = MEAN_PIXEL,
) -> list[Float[Tensor, "1 3 _ _"]]:
    """Return the model's inputs of images: RGB (1, 3, height, width), 0..255, with sides k * output_stride + 1.

    Args:
        images: a folder, or uint8 RGB arrays. Every n-th image of a folder is used if it has more than :data:`MOST`.
        output_stride: output stride of the model.
        size: size of the canvas in inference.
        scales: scales in inference; each image has one of them, in turn.
        mean_pixel: RGB, 0..255, of the padding: that of the model.

    Raises:
        ConfigError: ``images`` is not a folder, or is empty.
        MediaError: a file or an array is not an image, the folder has none, or ``images`` is a single array.
    """
    if isinstance(images, str | Path):
        arrays = [read_image(path) for path in sample_folder(Path(images))]
    else:
        arrays = [check_image(image, "calibration") for image in check_several(images)]
    if not arrays:
        raise ConfigError("calibration: no images given; give 50 or more, like the images to predict")
    inputs = []
    with torch.inference_mode():
        for number, array in enumerate(arrays):
            pixels = make_canvas(array, size, output_stride, mean_pixel).pixels
            inputs.append(scale_pixels(pixels, scales[number % len(scales)]))
    return inputs


def sample_folder(folder: Path) -> list[Path]:
    """Return at most :data:`MOST` of a folder's images, evenly distributed over their order."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is not a folder; give one with 50 or more images like the images to predict")
    return pick_evenly(list_images([folder]), MOST)


@dataclass(frozen=True)
class InferenceOptions:
    """Options of inference; values are checked when the object is created.

    Attributes:
        size: longest side of the model's input in pixels, to which larger images are scaled; or ``"native"``.
        multi_scale: average over six scales, 0.5 to 1.75, for about one point of mIOU and nine times the work; or
            over your own scales, such as ``(0.75, 1.0, 1.25)``; see ``docs/multi_scale.md``.
        flip: average over the mirrored image too. With ``multi_scale`` this is the paper's "MF".
        output_stride: 8, 16 or 32 in place of the file's own; smaller is finer and slower.
        backend: ``"torch"``, which starts at once; ``"onnxruntime"`` or ``"openvino"``, faster after seconds of
            conversion; ``"torch-compile"``; or ``"auto"`` for the fastest that is installed and has the precision.
        precision: ``"float32"``; ``"bfloat16"``, which changes a few labels; ``"float16"`` on GPUs; ``"int8"``, which
            changes a few more, needs ``calibration`` and takes about 30 s to prepare.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:N"``, ``"mps"``, or ``"auto"`` for a GPU if there is one that the backend
            computes on, else the CPU.
        threads: number of CPU threads, by default PyTorch's; ``"torch"`` sets it for the process.
        streams: images computed at once on the CPU, each with its share of the threads. As many as threads are fastest
            for a folder, 1 is fastest for a single image.
        batch: images that a GPU runs at once; 1 is fastest on a CPU.
        calibration: for int8, a folder with 50 or more images like the images to predict, or uint8 RGB arrays, 0..255.
        scales: the scales that ``multi_scale`` selects.
        engine: name of the engine that ``backend`` selects.
        place: device, threads and streams of the engine.

    Raises:
        ConfigError: a value is not possible, the engine is not installed, the device is missing, or int8 has no
            calibration.
    """

    size: Size = DEFAULT_SIZE
    multi_scale: bool | Sequence[float] = False
    flip: bool = False
    output_stride: int | None = None
    backend: str = "torch"
    precision: str = "float32"
    device: str | torch.device = "auto"
    threads: int | None = None
    streams: int = 1
    batch: int = 1
    calibration: str | Path | Sequence[UInt8[np.ndarray, "_ _ 3"]] | None = None
    scales: tuple[float, ...] = field(init=False)
    engine: str = field(init=False)
    place: Place = field(init=False)

    def __post_init__(self) -> None:
        check_size(self.size)
        check_batch(self.batch)
        check_flip(self.flip)
        if self.output_stride is not None:
            check_output_stride(self.output_stride)
        threads = check_threads(self.threads)
        precision = check_precision(self.precision)
        device = choose_device(self.device, self.backend, precision, check_streams(self.streams))
        engine, place = choose_engine(self.backend, precision, device), Place(device, threads, self.streams)
        check_calibration(self.calibration, precision)
        if reason := refuse_streams(engine, self.streams, device):
            raise ConfigError(reason)
        for name, value in (("scales", choose_scales(self.multi_scale)), ("engine", engine), ("place", place)):
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, options: InferenceOptions | None, values: Mapping[str, Any]) -> InferenceOptions:
        """Return options with some values replaced by name; those of ``None`` are the defaults.

        Raises:
            ConfigError: a value is not possible, there is no option of a name, or ``options`` is of another type.
        """
        if not isinstance(options, InferenceOptions | None):
            raise ConfigError(f"options: {options!r} is not possible; give InferenceOptions, or options by name")
        names = [option.name for option in fields(cls) if option.init]
        if unknown := [name for name in values if name not in names]:
            raise ConfigError(f"{', '.join(unknown)}: is not an option; options are {', '.join(names)}")
        return cls(**values) if options is None else replace(options, **values)

    def for_images(self, count: int) -> InferenceOptions:
        """Return these options with the number of streams that is fastest for so many images."""
        if self.batch != 1:
            return self
        side = math.inf if self.size == "native" else self.size * max(self.scales)
        return replace(self, streams=choose_streams(count, self.place.threads, side, self.engine, self.place.device))

    def prepare(self, model: Segmenter) -> Backend:
        """Return an engine that runs a model; the model is moved to the engine's device."""
        pixels = None
        if self.calibration is not None:
            stride, padding = model.output_stride, model.mean_pixel
            pixels = calibration_pixels(
                self.calibration, stride, size=self.size, scales=self.scales, mean_pixel=padding
            )
        engine = build_backend(model, self.engine, check_precision(self.precision), self.place, pixels)
        model.to(self.place.device)
        return engine


def choose_streams(images: int, threads: int, side: float, backend: str, device: torch.device) -> int:
    """Return the default number of images to compute at once.

    It is the number of threads, but at most that of images. It is 1, with all threads, in three cases: on GPUs, for
    engines that compute one call at a time, and for canvases with a longer side than :data:`LARGEST_SIDE`.
    """
    if side > LARGEST_SIDE or refuse_streams(backend, 2, device):
        return 1
    return max(1, min(images, threads))
