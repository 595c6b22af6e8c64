"""Heads by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from segmnv2.errors import ConfigError, describe_value
from segmnv2.heads.head import Head, HeadKind
from segmnv2.lazy_registry import Registry

HEADS: Registry[HeadKind] = Registry(
    "segmnv2.heads",
    {
        "deeplabv3": "deeplab_v3:DEEPLAB_V3",
        "deeplabv3_aspp": "deeplab_v3:DEEPLAB_V3_ASPP",
        "deeplabv3plus": "deeplab_v3_plus:DEEPLAB_V3_PLUS",
        "deeplabv3plus_aspp": "deeplab_v3_plus:DEEPLAB_V3_PLUS_ASPP",
    },
)
"""A model's name is the first word of the head's, the backbone's name, and the rest of the head's name."""


def model_name(head: str, backbone: str) -> str:
    """Return the name of the model with that head on that backbone, such as ``deeplabv3_mobilenet_v2_aspp``."""
    family, _, variant = head.partition("_")
    return "_".join(filter(None, (family, backbone, variant)))


def complete_head_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a head: those given, and the others' defaults.

    Args:
        name: a key of :data:`HEADS`.
        given: options.
    """
    parameters = inspect.signature(HEADS[name].head).parameters
    return {option: parameters[option].default for option in HEADS[name].head.options} | dict(given)


def check_head_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise an error if a head does not have all of these options, or a value is of another type than the default.

    Args:
        name: a key of :data:`HEADS`.
        options: by name.

    Raises:
        ConfigError: one or more are not possible.
    """
    known = HEADS[name].head.options
    if unknown := sorted(set(options) - set(known)):
        allowed = f"it has {', '.join(known)}" if known else "it has none"
        raise ConfigError(f"head '{name}' has no option {', '.join(unknown)}; {allowed}")
    defaults = complete_head_options(name, {})
    for option, value in options.items():
        if type(value) is not type(defaults[option]):
            allowed = "true or false" if isinstance(defaults[option], bool) else "an integer"
            raise ConfigError(f"head option {option} {describe_value(value)} is not possible; give {allowed}")


def create_head(
    name: str,
    channels: Sequence[int],
    strides: Sequence[int],
    num_classes: int,
    *,
    output_stride: int,
    options: Mapping[str, Any],
) -> Head:
    """Build a head with fresh weights.

    Args:
        name: a key of :data:`HEADS`.
        channels: of the backbone's feature maps, finest first.
        strides: of the same, nominal.
        num_classes: number of logits.
        output_stride: stride of the last feature map, 8, 16 or 32.
        options: of the head, as ``{"separable": True}`` of DeepLabv3+.

    Raises:
        ConfigError: an option that the head does not have or a value that it refuses.
    """
    check_head_options(name, options)
    head, fixed = HEADS[name]
    return head.build(channels, strides, num_classes, output_stride=output_stride, **fixed, **options)
