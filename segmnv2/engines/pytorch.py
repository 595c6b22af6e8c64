"""PyTorch as the engine: the model with batch norms folded into convolutions, channels last, compiled on request."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segmnv2.engines.backend import Backend, Calibration
from segmnv2.errors import ConfigError
from segmnv2.models.segmenter import Segmenter
from segmnv2.nn.conv import ConvNormAct

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

ROUNDING = 1e-3
"""Largest mean difference of another engine's logits, in standard deviations."""

T = TypeVar("T", bound=nn.Module)


def fold_norms(network: T) -> T:
    """Return a copy in evaluation mode whose batch norms are part of the convolutions before them.

    Every :class:`segmnv2.nn.conv.ConvNormAct` is folded. Other norms (in NASNet, and in encoders of timm and smp) are
    kept, with the same results.
    """
    folded = copy.deepcopy(network).eval()
    for module in folded.modules():
        if isinstance(module, ConvNormAct) and isinstance(module.norm, _BatchNorm):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()  # type: ignore[assignment]
    return folded.requires_grad_(False)


class InferenceNetwork(nn.Module):
    """A segmenter's copy for inference, with folded norms and without checks, padding and resizing of logits.

    The head joins its layers with the backbone's if that is less work:
    :meth:`segmnv2.heads.head.Head.for_inference`.

    Attributes:
        mean: mean of the normalization, 0..255, (1, 3, 1, 1), or (1, 1, 1, 1) if it is the same for all channels.
        std: divisor of the normalization, with the same shapes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Segmenter) -> None:
        """Copy a model, without changing it, at its output stride."""
        super().__init__()
        model.check_classes()
        self.register_buffer("mean", _one_if_equal(model.pixel_mean))
        self.register_buffer("std", _one_if_equal(model.pixel_std))
        self.backbone = fold_norms(model.backbone)
        self.head = fold_norms(model.head).for_inference(self.backbone)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k i j"]:
        """Return logits at every ``logits_stride``-th pixel of RGB pixels, 0..255, sides k * output_stride + 1.

        Logits have the number format of the layers; normalization is always in float32.
        """
        x = ((pixels - self.mean) / self.std).to(next(self.head.parameters()).dtype)
        out: Tensor = self.head(self.head.select(self.backbone(x)))
        return out


def _one_if_equal(channels: Float[Tensor, "1 3 1 1"]) -> Float[Tensor, "1 c 1 1"]:
    """Return one number if all are equal, because engines that compute channels last apply it several times faster."""
    return (channels[:, :1] if bool((channels == channels[:, :1]).all()) else channels).clone()


def check_other_size(
    run: Callable[[Float[Tensor, "b 3 h w"]], Float[Tensor, "b k i j"]],
    network: InferenceNetwork,
    output_stride: int,
    name: str,
) -> None:
    """Check that an engine's copy of a model gives the model's logits for a size that it was not traced with.

    Traces store values that a layer computes in Python from the size of its map as constants, without an error. And
    converters replace some operations by others. An example is OpenVINO's resampling of positions in vision
    transformers.

    Args:
        run: the copy, from pixels to logits.
        network: the original, on the CPU.
        output_stride: output stride of the model.
        name: name of the engine or format, for the message.

    Raises:
        ConfigError: the copy gives other logits.
    """
    pixels = torch.rand(3, 3, 3 * output_stride + 1, 6 * output_stride + 1, generator=torch.Generator().manual_seed(0))
    pixels *= 255
    with torch.inference_mode():
        expected, found = network(pixels), run(pixels)
    different = found.shape != expected.shape
    if different or float((found - expected).abs().mean()) > ROUNDING * float(expected.std()):
        raise ConfigError(
            f"{name}: gives other logits than this model at some or all image sizes, for example with some backbones "
            "that have attention; give the backend torch, or export another format"
        )


def convert_layers(network: InferenceNetwork, dtype: torch.dtype) -> InferenceNetwork:
    """Convert the layers' numbers in place; normalization stays in float32, where pixels are exact."""
    for child in network.children():  # without the buffers of the normalization
        child.to(dtype)
    return network


class PyTorchBackend(Backend):
    """Runs the folded model with PyTorch, on a CPU or a GPU."""

    name: ClassVar[str] = "torch"

    def convert(self, model: Segmenter, calibration: Calibration) -> None:
        """Copy the model for inference; there is no int8."""
        self.network = convert_layers(InferenceNetwork(model), DTYPES[self.precision]).to(self.device)

    def open(self) -> None:
        """Set PyTorch's number of threads, which belongs to the process; each stream is a thread of the caller."""
        torch.set_num_threads(self.threads)

    def check_process(self) -> None:
        """Raise a ConfigError in a forked process unless PyTorch has only one thread."""
        if torch.get_num_threads() > 1:
            super().check_process()

    def run(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k i j"]:
        """Return the logits."""
        with torch.inference_mode():
            out: Tensor = self.network(pixels.to(self.device, memory_format=torch.channels_last))
            return out.float()


class CompiledBackend(PyTorchBackend):
    """Runs the folded model compiled by torch.compile, with frozen weights: tens of seconds for each new image size."""

    name: ClassVar[str] = "torch-compile"
    opened: ClassVar[tuple[str, ...]] = ("_compiled", "_lock")

    def open(self) -> None:
        """Prepare the compilation, which happens at the first call."""
        super().open()
        self._compiled = torch.compile(self.network, dynamic=False)
        self._lock = threading.Lock()  # the compiler's settings belong to the process

    def run(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k i j"]:
        """Return the logits, after compilation for a new size."""
        import torch._inductor.config as inductor

        with self._lock, inductor.patch(freezing=True), torch.inference_mode():
            out: Tensor = self._compiled(pixels.to(self.device, memory_format=torch.channels_last))
            return out.float()


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let PyTorch compute on a number of threads while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def convolutions(precision: Literal["ieee", "tf32"] | None = None, *, tuned: bool) -> Iterator[None]:
    """Set the computation of float32 convolutions and matrix products on GPUs while the block runs.

    Args:
        precision: "ieee" for float32, or "tf32" to round inputs to 10 bits, which is several times faster. By default
            it is not changed; PyTorch's default is TF32 for convolutions and float32 for products.
        tuned: whether cuDNN tries its algorithms at each new size and keeps the fastest one. Deterministic algorithms
            of PyTorch turn this off.
    """
    cudnn, product = torch.backends.cudnn, torch.backends.cuda.matmul
    convolution = cudnn.conv  # type: ignore[attr-defined]  # missing in torch's types
    before = cudnn.benchmark, convolution.fp32_precision, product.fp32_precision
    cudnn.benchmark = tuned and not torch.are_deterministic_algorithms_enabled()
    if precision is not None:
        convolution.fp32_precision = product.fp32_precision = precision
    try:
        yield
    finally:
        cudnn.benchmark, convolution.fp32_precision, product.fp32_precision = before
