"""Heads by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from segmnv2.errors import ConfigError
from segmnv2.heads.base import Head
from segmnv2.heads.deeplab_v3 import DeepLabV3Head
from segmnv2.heads.deeplab_v3_plus import DeepLabV3PlusHead


class HeadBuilder(Protocol):
    """A constructor of heads. Keyword arguments after ``output_stride`` are options of the head."""

    def __call__(
        self, channels: Sequence[int], strides: Sequence[int], num_classes: int, *, output_stride: int, **options: Any
    ) -> Head:
        """Build a head for feature maps of these channels and nominal strides, finest first."""
        ...


HEADS: dict[str, HeadBuilder] = {
    "deeplabv3": partial(DeepLabV3Head.build, aspp=False),
    "deeplabv3_aspp": partial(DeepLabV3Head.build, aspp=True),
    "deeplabv3plus": partial(DeepLabV3PlusHead.build, aspp=False),
    "deeplabv3plus_aspp": partial(DeepLabV3PlusHead.build, aspp=True),
}
"""A model's name is the first word of the head's, the backbone's name, and the rest of the head's name."""


def model_name(head: str, backbone: str) -> str:
    """Return the name of the model with that head on that backbone, such as ``deeplabv3_mobilenet_v2_aspp``."""
    family, _, variant = head.partition("_")
    return "_".join(filter(None, (family, backbone, variant)))


def head_options(name: str) -> tuple[str, ...]:
    """Return the options of a head.

    Args:
        name: a key of :data:`HEADS`.
    """
    builder = HEADS[name]
    assert isinstance(builder, partial)
    keywords = [p.name for p in inspect.signature(builder.func).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return tuple(option for option in keywords if option not in {"output_stride", *builder.keywords})


def check_head_options(name: str, options: Iterable[str]) -> None:
    """Raise an error if a head does not have all of these options.

    Args:
        name: a key of :data:`HEADS`.
        options: names.

    Raises:
        ConfigError: it does not have one or more.
    """
    known = head_options(name)
    if unknown := sorted(set(options) - set(known)):
        allowed = f"it has {', '.join(known)}" if known else "it has none"
        raise ConfigError(f"head '{name}' has no option {', '.join(unknown)}; {allowed}")


def create_head(
    name: str, channels: Sequence[int], strides: Sequence[int], num_classes: int, *, output_stride: int, **options: Any
) -> Head:
    """Build a head with fresh weights.

    Args:
        name: a key of :data:`HEADS`.
        channels: of the backbone's feature maps, finest first.
        strides: of the same, nominal.
        num_classes: number of logits.
        output_stride: stride of the last feature map, 8, 16 or 32.
        options: of the head, as ``separable=True`` of DeepLabv3+.

    Raises:
        ConfigError: an option that the head does not have or a value that it refuses.
    """
    check_head_options(name, options)
    return HEADS[name](channels, strides, num_classes, output_stride=output_stride, **options)
