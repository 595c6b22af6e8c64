from __future__ import annotations

import inspect
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given

from segmnv2.backbones.backbone import BACKBONES, EXAMPLES, Options, backbone_options, check_options, create_backbone
from segmnv2.backbones.mobilenet_v2 import MobileNetV2
from segmnv2.errors import ConfigError
from segmnv2.models.classifier import create_classifier
from segmnv2.models.zoo import create_model
from tests.damage import VALUES, check_lawful, many, randoms

pytestmark = pytest.mark.usefixtures("unchecked")

ODD = (*VALUES, None, 10**5000, [[[[]]]], b"x", object(), 1j, 16.0, True, (1, 2), 64, 0.5, "imagenet", "resnet18")


def test_every_option_of_every_backbone_has_its_range_and_every_default_is_in_it() -> None:
    for name, build in BACKBONES.items():
        defaults = {key: each.default for key, each in inspect.signature(build).parameters.items()}
        assert set(backbone_options(name)) <= set(Options.model_fields)
        check_options(
            **{k: v for k, v in defaults.items() if k != "output_stride" and v is not inspect.Parameter.empty}
        )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mobilenet_v2", {"width": {}}, r"width \{\} is not possible; it must be a valid number"),
        ("mobilenet_v2", {"width": "1.0"}, "width '1.0' is not possible"),
        ("mobilenet_v2", {"width": float("nan")}, "width nan is not possible; it must be a finite number"),
        ("mobilenet_v2", {"channel_divisor": 10**30}, "channel_divisor 1000000.* less than or equal to 64"),
        ("mobilenet_v2", {"channel_divisor": 10**5000}, "channel_divisor .* is not possible"),
        ("mobilenet_v2", {"norm_eps": float("-inf")}, "norm_eps -inf"),
        ("mobilenet_v2", {"width": 9, "padding": "same"}, "width 9 .*; padding 'same' is not possible"),
        ("nasnet_a_mobile", {"cells": 10**30}, "cells .* less than or equal to 12"),
        ("nasnet_a_mobile", {"filters": 2**40}, "filters .* less than or equal to 256"),
        ("nasnet_a_mobile", {"filters": 42}, "filters 42 .* a multiple of 4"),
        ("resnet101", {"units": (3, 4, 10**9, 3)}, "units.2 1000000000 is not possible"),
        ("shufflenet_v1", {"groups": {}}, r"groups: \{\} is not an integer"),
        ("shufflenet_v1", {"groups": 3.0}, "groups: 3.0 is not an integer"),
        ("shufflenet_v1", {"groups": 5}, "groups 5 is not possible; it must be 1, 2, 3, 4 or 8"),
        ("timm", {"model": 5}, "model 5 is not possible; it must be a valid string"),
        ("smp", {"encoder": ["resnet18"]}, "encoder .* is not possible; it must be a valid string"),
        ("mobilenet_v2", {"output_stride": 16.0}, "output_stride 16.0 is not possible"),
        (["mobilenet_v2"], {}, r"backbone \['mobilenet_v2'\] is unknown"),
    ],
)
def test_an_impossible_value_is_named_with_what_is_allowed(name: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_backbone(name, **options)


def test_the_constructors_check_as_the_registry_does() -> None:
    with pytest.raises(ConfigError, match="width None is not possible"):
        MobileNetV2(width=None)  # type: ignore[arg-type]


@many
@given(random=randoms)
def test_any_options_are_lawful(random: Random) -> None:
    name = random.choice([name for name in BACKBONES if name not in EXAMPLES])
    keys = random.sample([*backbone_options(name), "output_stride"], k=2)
    options = {key: random.choice(ODD) for key in keys[: random.choice((1, 2))]}
    with torch.device("meta"):
        check_lawful(lambda: create_backbone(random.choice((name,) * 9 + ODD), **options))


@many
@given(random=randoms)
def test_any_arguments_of_networks_are_lawful(random: Random) -> None:
    keys = ("name", "num_classes", "output_stride", "class_names", "width", "model", "encoder", "pretrained")
    arguments = {key: random.choice(ODD) for key in random.sample(keys, k=2)}
    names = ("mobilenet_v2", "timm", "smp")
    with torch.device("meta"):
        check_lawful(lambda: create_classifier(**{"name": random.choice(names), **arguments}))
        arguments.pop("class_names", None)
        check_lawful(lambda: create_model(**{"name": f"deeplabv3_{random.choice(names)}", **arguments}))
