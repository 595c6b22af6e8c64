"""Backbones by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from segmnv2.backbones.base import Backbone
from segmnv2.backbones.mobilenet_v1 import MobileNetV1
from segmnv2.backbones.mobilenet_v2 import MobileNetV2
from segmnv2.backbones.resnet import resnet101
from segmnv2.errors import ConfigError

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v2": MobileNetV2,
    "resnet101": resnet101,
}


def backbone_options(name: str) -> tuple[str, ...]:
    """Return the arguments that a backbone takes beside its output stride.

    Args:
        name: a key of :data:`BACKBONES`.
    """
    return tuple(option for option in inspect.signature(BACKBONES[name]).parameters if option != "output_stride")


def create_backbone(name: str, *, output_stride: int = 32, **options: Any) -> Backbone:
    """Build a backbone with fresh weights.

    Args:
        name: a key of :data:`BACKBONES`.
        output_stride: 8, 16 or 32: stride of the last feature map.
        options: the backbone's own arguments, as ``width=0.5`` of :class:`MobileNetV2`.

    Returns:
        A module that maps normalised images (b, 3, h, w) to a tuple of feature maps, finest first.

    Raises:
        ConfigError: an unknown name, an option the backbone does not have, or a value it refuses.
    """
    if name not in BACKBONES:
        raise ConfigError(f"backbone '{name}' is unknown; available are {', '.join(sorted(BACKBONES))}")
    unknown = sorted(set(options) - set(backbone_options(name)))
    if unknown:
        raise ConfigError(
            f"backbone '{name}' has no option {', '.join(unknown)}; it has {', '.join(backbone_options(name))}"
        )
    return BACKBONES[name](output_stride=output_stride, **options)
