"""Backbones by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from segmnv2.backbones.backbone import Backbone
from segmnv2.errors import ConfigError, describe_value
from segmnv2.lazy_registry import Registry
from segmnv2.nn.network import freeze_unused

BACKBONES: Registry[Callable[..., Backbone]] = Registry(
    "segmnv2.backbones",
    {
        "mobilenet_v1": "mobilenet_v1:MobileNetV1",
        "mobilenet_v2": "mobilenet_v2:MobileNetV2",
        "nasnet_a_mobile": "nasnet:NASNet",
        "resnet101": "resnet:resnet101",
        "shufflenet_v1": "shufflenet:ShuffleNetV1",
        "shufflenet_v2": "shufflenet:ShuffleNetV2",
        "smp": "smp:SmpBackbone",
        "timm": "timm:TimmBackbone",
    },
)
"""Name -> class or function that builds the backbone; a new one is a file and a line here."""

FOREIGN = ("smp", "timm")
"""Backbones that stand for another library's networks, which may have parameters that no map depends on."""

EXAMPLES = {"smp": "encoder='resnet34'", "timm": "model='resnet50'"}
"""For backbones that cannot do without an argument, how it is given."""


def backbone_options(name: str) -> tuple[str, ...]:
    """Return the arguments that a backbone takes beside its output stride.

    Args:
        name: a key of :data:`BACKBONES`.
    """
    return tuple(option for option in inspect.signature(BACKBONES[name]).parameters if option != "output_stride")


def missing_options(name: str, given: Iterable[str]) -> tuple[str, ...]:
    """Return the arguments that a backbone cannot do without and that are not among ``given``.

    Args:
        name: a key of :data:`BACKBONES`.
        given: names of arguments.
    """
    parameters = inspect.signature(BACKBONES[name]).parameters
    needed = [option for option, parameter in parameters.items() if parameter.default is parameter.empty]
    return tuple(option for option in needed if option not in set(given))


def complete_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments of a backbone beside its output stride: those given, and the others' defaults.

    Args:
        name: a key of :data:`BACKBONES`.
        given: arguments.
    """
    parameters = inspect.signature(BACKBONES[name]).parameters
    defaults = {option: parameters[option].default for option in backbone_options(name)}
    return {option: value for option, value in {**defaults, **given}.items() if value is not inspect.Parameter.empty}


def create_backbone(name: str, *, output_stride: int = 32, **options: Any) -> Backbone:
    """Build a backbone with fresh weights.

    Args:
        name: a key of :data:`BACKBONES`.
        output_stride: 8, 16 or 32: stride of the last feature map.
        options: the backbone's own arguments, as ``width=0.5`` of :class:`segmnv2.backbones.mobilenet_v2.MobileNetV2`.

    Returns:
        A module that maps normalized images (b, 3, h, w) to a tuple of feature maps, finest first. Parameters that no
        map depends on are frozen.

    Raises:
        ConfigError: an unknown name, an option the backbone does not have, or a value it refuses.
    """
    if not isinstance(name, str) or name not in BACKBONES:
        raise ConfigError(f"backbone {describe_value(name)} is unknown; available are {', '.join(sorted(BACKBONES))}")
    unknown = sorted(set(options) - set(backbone_options(name)))
    if unknown:
        remedy = (
            "; for published weights give their name, as weights='voc_mobilenet_v2'" if "pretrained" in unknown else ""
        )
        raise ConfigError(
            f"backbone '{name}' has no option {', '.join(unknown)}; it has {', '.join(backbone_options(name))}{remedy}"
        )
    missing = missing_options(name, options)
    if missing:
        raise ConfigError(f"backbone '{name}' needs {', '.join(missing)}; give it, as {EXAMPLES[name]}")
    backbone = BACKBONES[name](output_stride=output_stride, **options)
    if name in FOREIGN:
        freeze_unused(backbone, backbone)
    return backbone
