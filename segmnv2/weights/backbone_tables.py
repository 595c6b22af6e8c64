"""Names of backbones' tensors in the ImageNet checkpoints of slim, DeepLab, torchvision and timm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from segmnv2.weights.key_tables import NORM, TENSORFLOW_HEAD, TENSORFLOW_HEAD_LEAVES, TENSORFLOW_LEAVES, KeyTable

V1_BLOCKS = 13
V2_REPEATS = (1, 2, 3, 4, 3, 3, 1)
RESNET101_UNITS = (3, 4, 23, 3)


def _torch_table(layers: Mapping[str, tuple[str, str]]) -> KeyTable:
    """Return the table of layers, ours -> the names of their convolution and of their batch norm."""
    prefixes = {f"backbone.{ours}.conv": conv for ours, (conv, _) in layers.items()}
    prefixes |= {f"backbone.{ours}.norm": norm for ours, (_, norm) in layers.items()}
    return KeyTable(prefixes, {ours: f".{theirs}" for ours, theirs in NORM.items()})


def _tensorflow_leaves(layers: Mapping[str, str]) -> dict[str, str]:
    return {
        f"{ours}.{leaf}": theirs + name for ours, theirs in layers.items() for leaf, name in TENSORFLOW_LEAVES.items()
    }


TENSORFLOW_MOBILENET_V1 = KeyTable(
    {
        "backbone.stem": "MobilenetV1/Conv2d_0",
        **{f"backbone.blocks.{n}": f"MobilenetV1/Conv2d_{n + 1}" for n in range(V1_BLOCKS)},
        **TENSORFLOW_HEAD,
    },
    {
        **TENSORFLOW_HEAD_LEAVES,
        **_tensorflow_leaves({"depthwise": "_depthwise", "pointwise": "_pointwise"}),
        "depthwise.conv.weight": "_depthwise/depthwise_weights",
    },
)
"""Source: variable names of slim/nets/mobilenet_v1.py."""

_V1_STAGES = (1, 2, 2, 6, 2)
_V1_PLACES = [(stage, block) for stage, count in enumerate(_V1_STAGES) for block in range(count)]

TIMM_MOBILENET_V1 = _torch_table(
    {
        "stem": ("conv_stem", "bn1"),
        **{
            f"blocks.{n}.{ours}": (f"blocks.{stage}.{block}.{conv}", f"blocks.{stage}.{block}.{norm}")
            for n, (stage, block) in enumerate(_V1_PLACES)
            for ours, conv, norm in (("depthwise", "conv_dw", "bn1"), ("pointwise", "conv_pw", "bn2"))
        },
    }
)
"""Source: parameter names of ``timm.create_model("mobilenetv1_100")``."""

_V2_PLACES = [(stage, block) for stage, count in enumerate(V2_REPEATS) for block in range(count)]
_V2_FIRST = (("depthwise", "conv_dw", "bn1"), ("project", "conv_pw", "bn2"))
_V2_OTHERS = (("expand", "conv_pw", "bn1"), ("depthwise", "conv_dw", "bn2"), ("project", "conv_pwl", "bn3"))

TIMM_MOBILENET_V2 = _torch_table(
    {
        "stem": ("conv_stem", "bn1"),
        "last": ("conv_head", "bn2"),
        **{
            f"blocks.{n}.{ours}": (f"blocks.{stage}.{block}.{conv}", f"blocks.{stage}.{block}.{norm}")
            for n, (stage, block) in enumerate(_V2_PLACES)
            for ours, conv, norm in (_V2_OTHERS if n else _V2_FIRST)
        },
    }
)
"""Source: parameter names of ``timm.create_model("mobilenetv2_100")``."""


def _resnet_units(units: Sequence[int]) -> dict[str, tuple[str, str]]:
    layers: dict[str, tuple[str, str]] = {}
    parts = (("reduce", "conv1", "bn1"), ("spatial", "conv2", "bn2"), ("expand", "conv3", "bn3"))
    for stage, count in enumerate(units):
        for unit in range(count):
            ours, theirs = f"units.{sum(units[:stage]) + unit}", f"layer{stage + 1}.{unit}"
            layers |= {f"{ours}.{part}": (f"{theirs}.{conv}", f"{theirs}.{norm}") for part, conv, norm in parts}
            if unit == 0:
                layers[f"{ours}.projection"] = (f"{theirs}.downsample.0", f"{theirs}.downsample.1")
    return layers


def torchvision_resnet(units: Sequence[int]) -> KeyTable:
    """Return the table of torchvision's bottleneck ResNet with so many units a stage, which is timm's too.

    Source: parameter names of ``torchvision.models.resnet101``.
    """
    return _torch_table({"stem.0": ("conv1", "bn1"), **_resnet_units(units)})


def timm_deep_resnet(units: Sequence[int]) -> KeyTable:
    """Return the table of timm's bottleneck ResNet with a stem of three 3x3 convolutions.

    Source: parameter names of ``timm.create_model("resnet101s")``.
    """
    stem = {"stem.0": ("conv1.0", "conv1.1"), "stem.1": ("conv1.3", "conv1.4"), "stem.2": ("conv1.6", "bn1")}
    return _torch_table({**stem, **_resnet_units(units)})


TORCHVISION_RESNET101 = torchvision_resnet(RESNET101_UNITS)
TIMM_RESNET101S = timm_deep_resnet(RESNET101_UNITS)

_SHUFFLENET_V2_LAYERS = (
    *(f"{layer}.{n}" for layer in ("conv1", "conv5") for n in (0, 1)),
    *(
        f"stage{stage}.{unit}.branch{branch}.{n}"
        for stage, units in ((2, 4), (3, 8), (4, 4))
        for unit in range(units)
        for branch, depth in ((1, 5), (2, 8))
        for n in range(depth)
    ),
)

TORCHVISION_SHUFFLENET_V2 = KeyTable(
    {f"backbone.{layer}": layer for layer in _SHUFFLENET_V2_LAYERS},
    {ours: f".{theirs}" for ours, theirs in NORM.items()},
)
"""Source: parameter names of ``torchvision.models.shufflenet_v2_x1_0``, which are the backbone's own."""


def _tensorflow_resnet(stem: Mapping[str, str]) -> KeyTable:
    return KeyTable(
        {
            **{f"backbone.stem.{ours}": f"resnet_v1_101/{theirs}" for ours, theirs in stem.items()},
            **{
                f"backbone.units.{sum(RESNET101_UNITS[:stage]) + unit}": (
                    f"resnet_v1_101/block{stage + 1}/unit_{unit + 1}/bottleneck_v1"
                )
                for stage, count in enumerate(RESNET101_UNITS)
                for unit in range(count)
            },
            **TENSORFLOW_HEAD,
        },
        {
            **TENSORFLOW_HEAD_LEAVES,
            **_tensorflow_leaves(
                {"reduce": "/conv1", "spatial": "/conv2", "expand": "/conv3", "projection": "/shortcut"}
            ),
        },
    )


TENSORFLOW_RESNET101 = _tensorflow_resnet({"0": "conv1_1", "1": "conv1_2", "2": "conv1_3"})
"""Source: variable names of tensorflow/models research/deeplab/core/resnet_v1_beta.py."""

TENSORFLOW_RESNET101_7X7 = _tensorflow_resnet({"0": "conv1"})
"""Source: variable names of slim/nets/resnet_v1.py."""
