"""Options of inference: one object for the predictor and for every command, and the calibration of int8."""

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
from segmnv2.media.inputs import list_images, spread_evenly
from segmnv2.media.pipeline import check_batch
from segmnv2.models.segmenter import Segmenter
from segmnv2.nn.stride import check_output_stride

MOST = 100  # images of a folder that are used; more change little and take longer
LARGEST_SIDE = 1025  # pixels of the canvases that go in streams by default: each stream needs the memory of one


def calibration_pixels(
    images: str | Path | Sequence[UInt8[np.ndarray, "_ _ 3"]],
    output_stride: int,
    *,
    size: Size = DEFAULT_SIZE,
    scales: Sequence[float] = (1.0,),
    mean_pixel: Sequence[float] = MEAN_PIXEL,
) -> list[Float[Tensor, "1 3 _ _"]]:
    """Return what the network will see of some images, RGB (1, 3, height, width), 0..255, sides k * output_stride + 1.

    Args:
        images: a folder, of which every n-th image is taken if it has more than :data:`MOST`, or uint8 RGB arrays.
        output_stride: output stride of the network.
        size: the canvas that will be used.
        scales: that will be used; one image after another is shown at one of them after another.
        mean_pixel: RGB, 0..255, of the padding: the network's.

    Raises:
        ConfigError: it is no folder, or there are no images.
        MediaError: a file or an array is no image, the folder has none, or ``images`` is a single array.
    """
    if isinstance(images, str | Path):
        pictures = [read_image(path) for path in sample_folder(Path(images))]
    else:
        pictures = [check_image(image, "calibration") for image in check_several(images)]
    if not pictures:
        raise ConfigError("calibration: no images given; give 50 or more, like those that will be seen")
    found = []
    with torch.inference_mode():
        for number, picture in enumerate(pictures):
            pixels = make_canvas(picture, size, output_stride, mean_pixel).pixels
            found.append(scale_pixels(pixels, scales[number % len(scales)]))
    return found


def sample_folder(folder: Path) -> list[Path]:
    """Return at most :data:`MOST` of a folder's images, evenly over their order."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder; give one with 50 or more images like those to come")
    return spread_evenly(list_images([folder]), MOST)


@dataclass(frozen=True)
class InferenceOptions:
    """Options of inference; everything is checked when the object is made.

    Attributes:
        size: longest side of the network's input in pixels, larger images being scaled down, or ``"native"``.
        multi_scale: average over six scales, 0.5 to 1.75, for about one point of mIOU and nine times the work; or
            over your own scales, as ``(0.75, 1.0, 1.25)``; see ``docs/multi_scale.md``.
        flip: average over the mirrored image too. With ``multi_scale`` this is the paper's "MF".
        output_stride: 8, 16 or 32 in place of the file's own; smaller is finer and slower.
        backend: ``"torch"``, ready at once; ``"onnxruntime"`` or ``"openvino"``, faster after seconds of conversion;
            ``"torch-compile"``; or ``"auto"`` for the fastest that is installed and has the precision.
        precision: ``"float32"``; ``"bfloat16"``, where a few labels differ; ``"float16"`` on GPUs; ``"int8"``, where a
            few more differ, with ``calibration``, and after some 30 s.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:N"``, ``"mps"``, or ``"auto"`` for a GPU if there is one that the backend
            computes on, else the CPU.
        threads: on the CPU; PyTorch's number by default, which ``"torch"`` sets for the process.
        streams: images computed at once on the CPU, each with its share of the threads: as many as threads label a
            folder fastest, 1 labels a single image fastest.
        batch: images that a GPU runs at once; 1 is fastest on a CPU.
        calibration: for int8, a folder with 50 or more images like those to come, or uint8 RGB arrays, 0..255.
        scales: the scales that ``multi_scale`` means.
        engine: name of the engine that ``backend`` stands for.
        place: the device, threads and streams that the engine gets.

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
            ConfigError: a value is not possible, there is no option of a name, or ``options`` are of another type.
        """
        if not isinstance(options, InferenceOptions | None):
            raise ConfigError(f"options: {options!r} is not possible; give InferenceOptions, or options by name")
        names = [each.name for each in fields(cls) if each.init]
        if unknown := [name for name in values if name not in names]:
            raise ConfigError(f"{', '.join(unknown)}: is no option; they are {', '.join(names)}")
        return cls(**values) if options is None else replace(options, **values)

    def for_images(self, count: int) -> InferenceOptions:
        """Return these options with the number of streams that is fastest for so many images."""
        if self.batch != 1:
            return self
        side = math.inf if self.size == "native" else self.size * max(self.scales)
        return replace(self, streams=choose_streams(count, self.place.threads, side, self.engine, self.place.device))

    def prepare(self, model: Segmenter) -> Backend:
        """Return the engine, running a network, which is moved to its device."""
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
    """Return how many images to compute at once where the user has not said.

    As many as threads, one thread each, and no more than images. One, with all threads, where the side of the largest
    canvas is above :data:`LARGEST_SIDE`, on GPUs, and for engines that compute one call at a time.
    """
    if side > LARGEST_SIDE or refuse_streams(backend, 2, device):
        return 1
    return max(1, min(images, threads))
