"""Normalization of pixels in models, and checks of their range."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from segmnv2.backbones.backbone import Backbone, Triple
from segmnv2.errors import ConfigError, SegmnWarning
from segmnv2.models.architecture import Architecture, ClassifierArchitecture
from segmnv2.nn.network import Network


@dataclass(frozen=True)
class Normalization:
    """Pixels 0..255 become ``(pixels - mean) / std``, channel by channel in RGB order.

    Raises:
        ConfigError: a value is not three numbers, or a standard deviation is below 0.001.
    """

    mean: Triple
    std: Triple

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            is_triple = isinstance(values, (tuple, list)) and len(values) == 3
            if not is_triple or not all(type(v) in (int, float) and abs(v) <= 1e6 for v in values):
                raise ConfigError(f"normalization.{name} is {values!r}; give three numbers in 0..255, red first")
        if min(self.std) < 1e-3:
            raise ConfigError(f"normalization.std is {self.std}; each of the three must be at least 0.001")


TENSORFLOW_NORMALIZATION = Normalization((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
"""Maps to -1..1. Source: ``_preprocess_zero_mean_unit_range`` of research/deeplab/core/feature_extractor.py."""

IMAGENET_NORMALIZATION = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Maps to zero mean and unit variance. Source: torchvision's ImageNet weights, times 255."""


CHECKS = 8
"""Number of calls of a model whose pixels are checked; later calls are not slowed down."""

CHECKS_LEFT = "_range_checks"
"""Attribute of a model with the number of remaining checks."""


def check_range(model: nn.Module, pixels: Tensor, highest: int) -> None:
    """Warn once if float pixels are outside a model's range of 0..``highest`` (255 or 1).

    The pixels of the first calls in evaluation mode are checked. Nothing is checked in training, nor while the model is
    compiled, exported, traced or captured.
    """
    if _is_recorded(pixels):  # first, so that compiled code does not depend on the number of calls
        return
    left = getattr(model, CHECKS_LEFT, CHECKS)
    if not left or model.training or not pixels.is_floating_point():
        return
    try:
        low, high = (float(value) for value in pixels.detach().aminmax())
        fractions = bool((pixels != pixels.round()).any())
    except RuntimeError:  # tensors without values, such as fake tensors and those of vmap
        return
    # Dark images have whole numbers. White normalized by ImageNet's statistics is below 3. Resampling and brightness
    # changes exceed the range by less than these bounds. Pixels of 12 bits, or minus their mean, exceed it by more.
    wrong = low < -highest / 3 or high > 3 * highest or (highest > 1 and high <= 3 and fractions)
    if wrong:
        warnings.warn(
            f"pixels: their values are in {low:.3g}..{high:.3g}; this model takes RGB in 0..{highest} and normalizes "
            f"it itself: scale them to 0..{highest}, and do not normalize them",
            SegmnWarning,
            stacklevel=3,
        )
    setattr(model, CHECKS_LEFT, 0 if wrong else left - 1)


def _is_recorded(pixels: Tensor) -> bool:
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return True
    return pixels.is_meta or (pixels.is_cuda and torch.cuda.is_current_stream_capturing())


class PixelNetwork(Network):
    """Base class of models that normalize pixels; the normalization is stored in buffers and saved with the weights.

    Attributes:
        kind: name of this kind of model in model files.
        logits_name: name of the last layer, whose outputs are the classes.
        backbone: normalized images -> feature maps.
        architecture: the arguments from which the model was built, if it was built by name.
        class_names: one for each logit.
    """

    kind: ClassVar[str]
    logits_name: ClassVar[str]
    backbone: Backbone
    architecture: Architecture | ClassifierArchitecture | None
    class_names: Sequence[str]
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, normalization: Normalization) -> None:
        """Store the normalization that the weights need."""
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor(normalization.mean).view(1, 3, 1, 1))
        self.register_buffer("pixel_std", torch.tensor(normalization.std).view(1, 3, 1, 1))

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.pixel_mean.device

    @property
    def normalization(self) -> Normalization:
        """Normalization in the buffers, in the fewest decimals that give the same float32 values."""
        mean, std = (
            [float(str(value)) for value in buffer.detach().float().cpu().flatten().numpy()]
            for buffer in (self.pixel_mean, self.pixel_std)
        )
        return Normalization((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))

    @property
    def mean_pixel(self) -> tuple[float, float, float]:
        """Color of padding: RGB, 0..255, which the normalization maps to 0."""
        return self.normalization.mean

    def check_classes(self) -> None:
        """Check that each output of the last layer has a class name.

        Raises:
            ConfigError: the numbers differ, because the last layer or the labels were replaced.
        """
        logits = self.get_parameter(f"{self.logits_name}.weight").shape[0]
        if logits != len(self.class_names):
            raise ConfigError(
                f"the last layer of the model, {self.logits_name}, has {logits} classes, and {len(self.class_names)} "
                f"have names; name each, or build the model with num_classes={logits}, weights=FILE, keep_logits=False"
            )

    def set_normalization(self, normalization: Normalization) -> None:
        """Change the normalization of pixels to the one that loaded weights need."""
        self.pixel_mean.copy_(torch.tensor(normalization.mean).view(1, 3, 1, 1))
        self.pixel_std.copy_(torch.tensor(normalization.std).view(1, 3, 1, 1))

    def normalize(self, pixels: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Normalize RGB pixels (b, 3, h, w), uint8 or float in 0..255.

        Raises:
            ConfigError: the pixels have a wrong shape or data type.
        """
        if pixels.dim() != 4 or pixels.shape[1] != 3 or 0 in pixels.shape:
            raise ConfigError(f"pixels have shape {tuple(pixels.shape)}; give (batch, 3, height, width), RGB")
        if pixels.dtype != torch.uint8 and not pixels.is_floating_point():
            raise ConfigError(f"pixels are {pixels.dtype}; give uint8, or floats in 0..255")
        check_range(self, pixels, 255)
        return (pixels.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std
