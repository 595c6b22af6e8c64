"""Interface between inference and engines, and the check that a model did not change."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, get_args, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from segmnv2.errors import ConfigError, check_positive_integer, converting, counted
from segmnv2.models.segmenter import Segmenter

Precision = Literal["float32", "bfloat16", "float16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

Calibration: TypeAlias = Sequence[Float[Tensor, "1 3 _ _"]] | None
"""Images from which int8 chooses its ranges: RGB pixels, 0..255, sides k * output_stride + 1."""


NO_CALIBRATION = (
    "precision: 'int8' needs images to calibrate its ranges; give a folder with 50 or more images like those to label "
    "(--calibration DIR)"
)


@dataclass(frozen=True)
class Place:
    """Device and threads of an engine."""

    device: torch.device  # the CPU or a GPU
    threads: int  # total number on the CPU
    streams: int = 1  # simultaneous calls, which share the threads


@runtime_checkable  # for the checker of annotations in tests
class DenseModel(Protocol):
    """Model for inference: a :class:`segmnv2.models.segmenter.Segmenter` or a backend."""

    training: bool

    @property
    def output_stride(self) -> int:
        """Output stride of the model; sides of its input are k * output_stride + 1."""

    @property
    def logits_stride(self) -> int:
        """Pixels between two logits."""

    def raw_logits(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k i j"]:
        """Return logits for RGB pixels 0..255 of any size; logit (i, j) is at pixel (i, j) * logits_stride."""

    @property
    def mean_pixel(self) -> tuple[float, float, float]:
        """Color that normalization maps to 0, RGB 0..255; images are padded with it."""

    @property
    def device(self) -> torch.device:
        """Device of the model."""


class Backend(ABC):
    """A model that is prepared to run in one engine and precision; several threads may call it at once.

    For inference it replaces a :class:`segmnv2.models.segmenter.Segmenter`. It can be copied, pickled and sent to a
    spawned process. A forked process gets an error, because the engine's threads do not exist there and the call would
    wait forever.

    Attributes:
        name: name of the engine, a value of ``--backend``.
        precision: number format in which layers compute; logits are always float32.
        threads: number of threads that the engine uses on the CPU.
        streams: number of calls that run at the same time and share the threads; further calls wait.
        output_stride: output stride of the model; sides of its input are k * output_stride + 1.
        logits_stride: pixels between two logits.
        labels: names and colors of the classes.
        mean_pixel: color that images are padded with, RGB 0..255.
        device: device of the pixels and logits.
    """

    name: ClassVar[str]
    opened: ClassVar[tuple[str, ...]] = ()  # attributes that `open` sets, which are not copied or pickled
    training = False

    def __init__(self, model: Segmenter, precision: Precision, place: Place, calibration: Calibration = None) -> None:
        """Prepare a model to run, without changing it.

        Raises:
            ConfigError: int8 has no calibration, or the engine cannot run the model.
        """
        self.precision = precision
        self.device, self.threads, self.streams = place.device, place.threads, place.streams
        self.output_stride = model.output_stride
        self.logits_stride = model.logits_stride
        self.labels = model.labels
        self.mean_pixel = model.mean_pixel
        self._mean = model.pixel_mean.to(self.device)
        self._process = os.getpid()
        with converting(f"backend: '{self.name}'", "give another backend, such as torch"):
            self.convert(model, calibration)
            self.open()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in self.opened}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _process=os.getpid())
        self.open()

    @abstractmethod
    def convert(self, model: Segmenter, calibration: Calibration) -> None:
        """Convert a model, without changing it, into attributes that can be copied and pickled."""

    @abstractmethod
    def open(self) -> None:
        """Create the engine from these attributes, after conversion and after unpickling."""

    def check_process(self) -> None:
        """Raise a ConfigError if this process is a fork of the one that created the engine."""
        refuse_fork(self, self._process)

    def __str__(self) -> str:
        """Return engine, precision and place, for example "openvino float32, 2 threads in 2 streams"."""
        threads = counted(self.threads, "thread")
        shared = f" in {self.streams} streams" if self.streams > 1 else ""
        place = threads + shared if self.device.type == "cpu" else str(self.device)
        return f"{self.name} {self.precision}, {place}"

    def raw_logits(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k i j"]:
        """Return logits for RGB pixels 0..255 of any size; logit (i, j) is at pixel (i, j) * logits_stride.

        Sides that are not k * output_stride + 1 are padded at the right and bottom with the mean pixel.
        """
        self.check_process()
        bottom, right = (-(side - 1) % self.output_stride for side in pixels.shape[-2:])
        if bottom or right:
            pixels = F.pad(pixels - self._mean, (0, right, 0, bottom)) + self._mean
        return self.run(pixels)

    @abstractmethod
    def run(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k i j"]:
        """Return the logits for pixels whose sides are k * output_stride + 1."""


def refuse_fork(engine: object, process: int) -> None:
    """Raise a ConfigError if this process is not the one that created an engine or model."""
    if os.getpid() != process:
        raise ConfigError(
            f"backend: {engine} was created in the parent of this forked process, and its threads do not exist here; "
            "start processes with multiprocessing.get_context('spawn') and send the predictor, or load it here"
        )


def check_precision(precision: str) -> Precision:
    """Return ``precision`` if it is in :data:`PRECISIONS`; otherwise raise a ConfigError."""
    for known in PRECISIONS:
        if precision == known:
            return known
    raise ConfigError(f"precision: {precision!r} is not known; give one of {', '.join(PRECISIONS)}")


MOST_THREADS = 1024  # enough for any machine, and their stacks still fit into memory


def check_threads(threads: object) -> int:
    """Return ``threads``, or PyTorch's number for ``None``.

    Raises:
        ConfigError: it is not an integer from 1 to :data:`MOST_THREADS`. With more threads some engines crash or hang.
    """
    default = torch.get_num_threads()
    if threads is None:
        return default
    number = check_positive_integer("threads", threads, f"leave it out for {default}")
    if number > MOST_THREADS:
        raise ConfigError(f"threads: {number} is more than {MOST_THREADS}; leave it out for {default}")
    return number


def check_streams(streams: object) -> int:
    """Return ``streams`` if it is a positive integer; otherwise raise a ConfigError."""
    return check_positive_integer("streams", streams, "give 1, or for many images the number of threads")


class ModelWatch:
    """Compares a model with its earlier state. The values of weights are read only in the last layer."""

    def __init__(self, model: Segmenter, backend: DenseModel) -> None:
        """Store the state of a model.

        Args:
            model: a model that may change later.
            backend: the engine created from the model, or the model itself.

        Raises:
            ConfigError: their output strides already differ.
        """
        self._model, self._backend, self._process = model, backend, os.getpid()
        groups = ((module._parameters, module._buffers, module._modules) for module in model.modules())
        self._groups: list[dict[str, Any]] = [group for three in groups for group in three if group]
        self._state = self._read()
        self.check()

    def __reduce__(self) -> tuple[type[ModelWatch], tuple[Any, ...]]:
        self.check()
        return ModelWatch, (self._model, self._backend)

    def check(self) -> None:
        """Check that the model is unchanged.

        Raises:
            ConfigError: its weights or output stride differ from the engine's. Or it runs without an engine in a forked
                process, where PyTorch would wait for the parent's threads.
        """
        self._model.check_classes()
        if self._backend is self._model:
            if torch.get_num_threads() > 1:
                refuse_fork("the model", self._process)
            return
        now, before = self._model.output_stride, self._backend.output_stride
        if now != before or self._read() != self._state:
            raise ConfigError(
                f"predictor: '{self._backend}' runs the model as it was before a change "
                f"({f'output stride {before} to {now}' if now != before else 'other weights'}); "
                "make a new predictor: Predictor(model, backend=create_backend(model, ...)), or Predictor.load(..., "
                "output_stride=...)"
            )

    def _read(self) -> list[tuple[int, int]]:
        """Return two numbers per tensor or layer; one of them changes if it is replaced or its values change.

        Moving averages change values through ``.data``, which PyTorch does not count as a new version. The sum of the
        last layer's bits shows such changes. It is a sum of integers, so its order does not affect it.
        """
        last = self._model.get_parameter(f"{self._model.logits_name}.weight").detach().float()
        states = [
            (id(each), each._version if isinstance(each, torch.Tensor) and not each.is_inference() else 0)
            for group in self._groups
            for each in group.values()
            if each is not None
        ]
        return [(int(last.view(torch.int32).sum()), 0), *states]
