"""Segmentation heads: their interface, and the heads by name."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.errors import ConfigError, describe_value
from segmnv2.lazy_registry import Registry


class Head(nn.Module, ABC):
    """Base class of heads, which map the feature maps of a backbone to class logits.

    Attributes:
        options: names of the options that ``head_options`` of :func:`segmnv2.create_model` may give.
        last_layer: name of the layer whose output channels are the classes.
        float_layers: names of layers of :meth:`for_inference` that stay in float when a model is quantized to int8.
        reads: indices of the feature maps that the head reads.
        in_channels: channels of those feature maps.
    """

    options: ClassVar[tuple[str, ...]] = ()
    last_layer: ClassVar[str] = "logits"
    float_layers: ClassVar[tuple[str, ...]] = ()
    reads: tuple[int, ...] = (-1,)
    in_channels: tuple[int, ...]

    @classmethod
    @abstractmethod
    def build(
        cls, channels: Sequence[int], strides: Sequence[int], num_classes: int, *, output_stride: int, **options: Any
    ) -> Head:
        """Build the head for all feature maps of a backbone.

        Args:
            channels: channels of the feature maps, finest first.
            strides: nominal strides of the feature maps.
            num_classes: number of logits.
            output_stride: stride of the last feature map, 8, 16 or 32.
            options: options of the class, and the arguments that :data:`segmnv2.heads.head.HEADS` fixes.

        Raises:
            ConfigError: the head cannot be built for these maps or with these options.
        """

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return self.classifier.out_channels

    @property
    def classifier(self) -> nn.Conv2d:
        """The layer whose output channels are the classes."""
        layer = self.get_submodule(self.last_layer)
        assert isinstance(layer, nn.Conv2d)
        return layer

    @property
    @abstractmethod
    def logits_stride(self) -> int:
        """Pixels between two logits."""

    @abstractmethod
    def set_output_stride(self, output_stride: int) -> None:
        """Prepare the head for a last feature map of another stride; the weights stay.

        Args:
            output_stride: 8, 16 or 32.

        Raises:
            ConfigError: any other value.
        """

    @abstractmethod
    def forward(self, features: Sequence[Float[Tensor, "b _c _h _w"]]) -> Float[Tensor, "b k i j"]:
        """Map the feature maps that the head reads to logits at every ``logits_stride``-th pixel.

        Args:
            features: those that :meth:`select` returns.
        """

    def select(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the feature maps that the head reads, from all of the backbone's."""
        return [features[index] for index in self.reads]

    def for_inference(self, backbone: nn.Module) -> Head:
        """Return an equivalent, faster head; this head and the backbone are changed in place.

        Args:
            backbone: the backbone; its batch norms are folded, and so are this head's.
        """
        return self


class HeadKind(NamedTuple):
    """Class of a named head, and the arguments that the name fixes."""

    head: type[Head]
    fixed: Mapping[str, Any]


HEADS: Registry[HeadKind] = Registry(
    "segmnv2.heads",
    {
        "deeplabv3": "deeplab_v3:DEEPLAB_V3",
        "deeplabv3_aspp": "deeplab_v3:DEEPLAB_V3_ASPP",
        "deeplabv3plus": "deeplab_v3_plus:DEEPLAB_V3_PLUS",
        "deeplabv3plus_aspp": "deeplab_v3_plus:DEEPLAB_V3_PLUS_ASPP",
    },
)
"""Heads by name."""


def model_name(head: str, backbone: str) -> str:
    """Return the name of a model: the backbone's name after the first word of the head's name.

    For example, the head ``deeplabv3_aspp`` on ``mobilenet_v2`` gives ``deeplabv3_mobilenet_v2_aspp``.
    """
    family, _, variant = head.partition("_")
    return "_".join(filter(None, (family, backbone, variant)))


def complete_head_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a head: the given ones, and defaults."""
    parameters = inspect.signature(HEADS[name].head).parameters
    return {option: parameters[option].default for option in HEADS[name].head.options} | dict(given)


def check_head_options(name: str, options: Mapping[str, Any]) -> None:
    """Check that a head has all these options, and that each value has the type of the default.

    Raises:
        ConfigError: an option does not exist, or its value has another type.
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
    """Build a head of :data:`HEADS` with fresh weights; the arguments are those of :meth:`Head.build`.

    Raises:
        ConfigError: the head does not have an option, or refuses a value.
    """
    check_head_options(name, options)
    head, fixed = HEADS[name]
    return head.build(channels, strides, num_classes, output_stride=output_stride, **fixed, **options)
