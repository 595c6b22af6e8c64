"""A model made ready for use: a picture in, a label map with its confidence and overlay out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from jaxtyping import Float32, UInt8

from segmnv2.backends.base import check_precision, check_threads
from segmnv2.backends.selection import choose_engine, create_backend
from segmnv2.data.image_file import read_image, rgb_array
from segmnv2.data.mask_file import write_mask
from segmnv2.errors import ConfigError, MediaError
from segmnv2.hub.resolve import resolve_weights
from segmnv2.inference.calibration import calibration_pixels
from segmnv2.inference.canvas import DEFAULT_SIZE, Size, check_image, check_size
from segmnv2.inference.multi_scale import SCALES, DenseModel
from segmnv2.inference.overlay import DEFAULT_OPACITY, overlay_picture
from segmnv2.inference.scores import Scores, predict_scores
from segmnv2.labels import LabelSet
from segmnv2.models.file import load_model
from segmnv2.models.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model sees in one image.

    Attributes:
        image: (H, W, 3) uint8 RGB, 0..255: the image that was looked at, upright.
        mask: (H, W) uint8 class ids.
        labels: names and colours of the classes.
        scores: the model's passes, from which more is read out on request.
    """

    image: UInt8[np.ndarray, "h w 3"]
    mask: UInt8[np.ndarray, "h w"]
    labels: LabelSet
    scores: Scores

    @cached_property
    def confidence(self) -> Float32[np.ndarray, "h w"]:
        """(H, W) probability, 0..1, of each pixel's class; computed when first asked for."""
        return self.scores.confidence()

    def probabilities(self) -> Float32[np.ndarray, "k h w"]:
        """Return (num_classes, H, W) probabilities, 0..1; large for large images, and computed on each call."""
        return self.scores.probabilities()

    def overlay(self, opacity: float = DEFAULT_OPACITY, legend: bool = True) -> PIL.Image.Image:
        """Return the image under its classes' colours, with a legend beside it.

        Args:
            opacity: 0 for outlines only, 1 for plain colours.
            legend: names, colours and shares of the classes present, in a strip that covers nothing of the image.

        Raises:
            ConfigError: ``opacity`` is not in 0..1.
        """
        return overlay_picture(self.image, self.mask, self.labels, opacity, legend)

    def save_mask(self, path: str | Path) -> None:
        """Write the class ids as a palette PNG in the classes' colours."""
        write_mask(path, self.mask, self.labels)


class Predictor:
    """Calls a model on pictures of any kind and size."""

    def __init__(
        self,
        model: Segmenter,
        *,
        size: Size = DEFAULT_SIZE,
        multi_scale: bool = False,
        flip: bool = False,
        backend: DenseModel | None = None,
    ) -> None:
        """Make a model ready; it is put in evaluation mode and its weights in channels-last order, in place.

        Args:
            model: the network; predictions are made on its device, in its precision.
            size: longest side in pixels that the network sees, larger images being scaled down, or ``"native"``.
            multi_scale: average over six scales, 0.5 to 1.75: six or more times the work for about one point of mIOU.
            flip: average over the mirrored image too. With ``multi_scale`` this is the paper's "MF".
            backend: what runs the network in its place, made by :func:`segmnv2.backends.selection.create_backend`.

        Raises:
            ConfigError: ``size`` is not an integer of at least 17 or ``"native"``.
        """
        self.size = check_size(size)
        self.scales = SCALES if multi_scale else (1.0,)
        self.flip = flip
        self.model = model.eval().to(memory_format=torch.channels_last)  # the CPU's fast layout, nearly twice as fast
        self.backend: DenseModel = self.model if backend is None else backend

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str | torch.device = "cpu",
        output_stride: int | None = None,
        size: Size = DEFAULT_SIZE,
        multi_scale: bool = False,
        flip: bool = False,
        backend: str = "torch",
        precision: str = "float32",
        threads: int | None = None,
        calibration: str | Path | Sequence[UInt8[np.ndarray, "_ _ 3"]] | None = None,
    ) -> Predictor:
        """Build the predictor of a model file.

        Args:
            path: safetensors file of ``segmnv2 import`` or of training, a short name as ``voc_mobilenet_v2``, or
                ``owner/name`` on the Hugging Face Hub; see :func:`segmnv2.hub.resolve.resolve_weights`.
            device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
            output_stride: 8, 16 or 32 in place of the file's own; smaller is finer and slower.
            size: as for the constructor.
            multi_scale: as for the constructor.
            flip: as for the constructor.
            backend: ``"torch"``, ready at once; ``"onnxruntime"`` or ``"openvino"``, faster after seconds of
                conversion; ``"torch-compile"``; or ``"auto"`` for the fastest that is installed and has the precision.
                The predictor's ``backend`` says which.
            precision: ``"float32"``; ``"bfloat16"``, where a few labels differ; ``"float16"`` on
                GPUs; ``"int8"``, where a few more differ, with ``calibration``, and after some 30 s.
            threads: on the CPU; PyTorch's number by default, which ``"torch"`` sets for the process.
            calibration: for int8, a folder with 50 or more images like those to come, or uint8 RGB arrays, 0..255.

        Raises:
            ConfigError: an argument has a value that is not possible, or the device is not there.
            WeightsError: the file is missing or damaged, or does not describe a model.
        """
        check_size(size)
        found = check_device(device)
        engine = choose_engine(backend, check_precision(precision), found)
        count = check_threads(threads)
        model = load_model(resolve_weights(path), output_stride=output_stride)
        scales = SCALES if multi_scale else (1.0,)
        pixels = None
        if calibration is not None:
            pixels = calibration_pixels(calibration, model.output_stride, size=size, scales=scales)
        runs = create_backend(model, engine, precision, count, found, pixels)
        return cls(model.to(found), size=size, multi_scale=multi_scale, flip=flip, backend=runs)

    def __call__(self, image: str | Path | PIL.Image.Image | npt.NDArray[Any]) -> Prediction:
        """Label each pixel of a picture.

        Args:
            image: a file, a PIL image of any mode, or a uint8 RGB array, 0..255, (H, W, 3), or (H, W) if grey. OpenCV's
                arrays are BGR: reverse their last axis first.

        Raises:
            MediaError: the file cannot be read, the array is of another type or shape, or memory does not suffice.
        """
        source = str(image) if isinstance(image, str | Path) else "image"
        pixels = load_pixels(image)
        try:
            scores = predict_scores(self.backend, pixels, size=self.size, scales=self.scales, flip=self.flip)
            return Prediction(pixels, scores.labels(), self.model.labels, scores)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            raise MediaError(
                f"{source}: {pixels.shape[1]}x{pixels.shape[0]} pixels at size {self.size!r} do not fit in memory; "
                f"give a smaller size, as {DEFAULT_SIZE}"
            ) from error


def check_device(device: str | torch.device) -> torch.device:
    """Return the device of that name.

    Raises:
        ConfigError: it is not cpu, cuda or cuda:N, or is not there.
    """
    name = str(device)
    kind, _, number = name.partition(":")
    if kind == "cpu" and not number:
        return torch.device("cpu")
    if kind != "cuda" or not (number.isdecimal() or name == "cuda"):
        raise ConfigError(f"device: {name!r} is not known; give cpu, cuda or cuda:N")
    if int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device: {name!r} is not there ({torch.cuda.device_count()} CUDA devices are seen); give cpu, or install "
            "a CUDA build of PyTorch and a driver that fits it"
        )
    return torch.device(name)


def load_pixels(image: object) -> UInt8[np.ndarray, "h w 3"]:
    """Return RGB pixels (H, W, 3), 0..255, of a file, a PIL image or an array.

    Raises:
        MediaError: the file cannot be read, or the array is of another type or shape.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, PIL.Image.Image):
        try:
            return rgb_array(image)
        except OSError as error:  # PIL decodes a file when its pixels are first asked for
            raise MediaError(f"image: the PIL picture cannot be decoded ({error}); open a whole file") from error
    return check_image(image)


def _is_out_of_memory(error: Exception) -> bool:
    """Tell a lack of memory, which torch's CPU allocator reports as a plain RuntimeError, from other errors."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "not enough memory" in str(error) or "allocate memory" in str(error)
