"""Normalization of pixels."""

from __future__ import annotations

from dataclasses import dataclass

from segmnv2.errors import ConfigError

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Normalization:
    """Pixels 0..255 become ``(pixels - mean) / std``, channel by channel in RGB order.

    Raises:
        ConfigError: not three numbers each, or a standard deviation that is not positive.
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
"""To -1..1. Source: ``_preprocess_zero_mean_unit_range`` of research/deeplab/core/feature_extractor.py."""

IMAGENET_NORMALIZATION = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""To zero mean and unit variance. Source: torchvision's ImageNet weights, times 255."""
