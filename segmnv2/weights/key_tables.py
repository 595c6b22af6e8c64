"""Names of our models' tensors in other code bases: one table for each, usable in both directions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

V1_BLOCKS, V2_BLOCKS = 13, 17
V1_STAGES, V2_STAGES = (1, 2, 2, 6, 2), (1, 2, 3, 4, 3, 3, 1)
RESNET101_UNITS = (3, 4, 23, 3)
NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class KeyTable:
    """Names of tensors, ours -> theirs; a name has a prefix (a module) and a leaf, each with its own table.

    Attributes:
        prefixes: our module's path -> theirs.
        leaves: the rest of our name, below the module -> theirs.
    """

    prefixes: Mapping[str, str]
    leaves: Mapping[str, str]

    def theirs(self, names: Iterable[str]) -> dict[str, str]:
        """Return our name -> their name for those of our ``names`` that are in the table."""
        known = {}
        for name in names:
            for cut in (i for i, letter in enumerate(name) if letter == "."):
                prefix, leaf = name[:cut], name[cut + 1 :]
                if prefix in self.prefixes and leaf in self.leaves:
                    known[name] = self.prefixes[prefix] + self.leaves[leaf]
        assert len(set(known.values())) == len(known), "two of our tensors have the same name in the table"
        return known

    def ours(self, names: Iterable[str]) -> dict[str, str]:
        """Return their name -> our name for those of our ``names`` that are in the table."""
        return {theirs: ours for ours, theirs in self.theirs(names).items()}


def _leaves(conv: str, norm: str, names: Sequence[str]) -> dict[str, str]:
    return {"conv.weight": conv, **{f"norm.{ours}": norm + theirs for ours, theirs in zip(NORM, names, strict=True)}}


def _torch_table(layers: Mapping[str, tuple[str, str]]) -> KeyTable:
    """Return the table of a backbone from a mapping of our layers -> (their convolution, their batch norm)."""
    prefixes = {
        f"backbone.{ours}.{part}": name
        for ours, names in layers.items()
        for part, name in zip(("conv", "norm"), names, strict=True)
    }
    return KeyTable(prefixes, {leaf: f".{leaf}" for leaf in NORM})


def _positions(counts: Sequence[int]) -> list[tuple[int, int]]:
    """Return (stage, index in the stage) of each block, in order."""
    return [(stage, block) for stage, count in enumerate(counts) for block in range(count)]


_TENSORFLOW = _leaves("/weights", "/BatchNorm/", ("gamma", "beta", "moving_mean", "moving_variance"))
_TENSORFLOW_HEAD = {
    "head.aspp.image_pooling": "image_pooling",
    "head.aspp.pointwise": "aspp0",
    **{f"head.aspp.atrous.{n}": f"aspp{n + 1}" for n in range(3)},
    "head.projection": "concat_projection",
    "head.logits": "logits/semantic",
}


def _tensorflow_table(prefixes: Mapping[str, str], layers: Mapping[str, str]) -> KeyTable:
    """Return the table of a backbone's modules and their layers, with DeepLab's head.

    Source of the head: variable names of tensorflow/models research/deeplab/model.py.
    """
    leaves = {f"{ours}.{leaf}": theirs + name for ours, theirs in layers.items() for leaf, name in _TENSORFLOW.items()}
    if "depthwise" in layers:
        leaves["depthwise.conv.weight"] = f"{layers['depthwise']}/depthwise_weights"
    head = {**_TENSORFLOW, "weight": "/weights", "bias": "/biases"}
    return KeyTable({f"backbone.{ours}": theirs for ours, theirs in prefixes.items()} | _TENSORFLOW_HEAD, head | leaves)


TENSORFLOW = _tensorflow_table(
    {
        "stem": "MobilenetV2/Conv",
        "blocks.0": "MobilenetV2/expanded_conv",
        **{f"blocks.{n}": f"MobilenetV2/expanded_conv_{n}" for n in range(1, V2_BLOCKS)},
        "last": "MobilenetV2/Conv_1",
    },
    {layer: f"/{layer}" for layer in ("expand", "depthwise", "project")},
)
"""Source: variable names of tensorflow/models research/slim (MobilenetV2)."""

TENSORFLOW_MOBILENET_V1 = _tensorflow_table(
    {
        "stem": "MobilenetV1/Conv2d_0",
        **{f"blocks.{n}": f"MobilenetV1/Conv2d_{n + 1}" for n in range(V1_BLOCKS)},
    },
    {"depthwise": "_depthwise", "pointwise": "_pointwise"},
)
"""Source: variable names of slim/nets/mobilenet_v1.py."""


def _tensorflow_resnet(*stem: str) -> KeyTable:
    return _tensorflow_table(
        {
            **{f"stem.{n}": f"resnet_v1_101/{theirs}" for n, theirs in enumerate(stem)},
            **{
                f"units.{n}": f"resnet_v1_101/block{stage + 1}/unit_{unit + 1}/bottleneck_v1"
                for n, (stage, unit) in enumerate(_positions(RESNET101_UNITS))
            },
        },
        {"reduce": "/conv1", "spatial": "/conv2", "expand": "/conv3", "projection": "/shortcut"},
    )


TENSORFLOW_RESNET101 = _tensorflow_resnet("conv1_1", "conv1_2", "conv1_3")
"""Source: variable names of tensorflow/models research/deeplab/core/resnet_v1_beta.py."""

TENSORFLOW_RESNET101_7X7 = _tensorflow_resnet("conv1")
"""Source: variable names of slim/nets/resnet_v1.py."""

_HF_LAYERS = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}

HUGGING_FACE = KeyTable(
    prefixes={
        "backbone.stem": "mobilenet_v2.conv_stem.first_conv",
        **{f"backbone.blocks.0.{ours}": f"mobilenet_v2.conv_stem.{theirs}" for ours, theirs in _HF_LAYERS.items()},
        **{
            f"backbone.blocks.{n}.{ours}": f"mobilenet_v2.layer.{n - 1}.{theirs}"
            for n in range(1, V2_BLOCKS)
            for ours, theirs in _HF_LAYERS.items()
        },
        "backbone.last": "mobilenet_v2.conv_1x1",
        "head.aspp.image_pooling": "segmentation_head.conv_pool",
        "head.aspp.pointwise": "segmentation_head.conv_aspp",
        "head.projection": "segmentation_head.conv_projection",
        "head.logits": "segmentation_head.classifier",
    },
    leaves={
        **_leaves(".convolution.weight", ".normalization.", NORM),
        "weight": ".convolution.weight",
        "bias": ".convolution.bias",
    },
)
"""Source: parameter names of transformers' ``MobileNetV2ForSemanticSegmentation``."""

_V2_FIRST = {"depthwise": ("conv.0.0", "conv.0.1"), "project": ("conv.1", "conv.2")}
_V2_OTHERS = {
    "expand": ("conv.0.0", "conv.0.1"),
    "depthwise": ("conv.1.0", "conv.1.1"),
    "project": ("conv.2", "conv.3"),
}

TORCHVISION = _torch_table(
    {
        "stem": ("features.0.0", "features.0.1"),
        **{
            f"blocks.{n}.{layer}": (f"features.{n + 1}.{conv}", f"features.{n + 1}.{norm}")
            for n in range(V2_BLOCKS)
            for layer, (conv, norm) in (_V2_OTHERS if n else _V2_FIRST).items()
        },
        "last": ("features.18.0", "features.18.1"),
    }
)
"""Source: parameter names of ``torchvision.models.mobilenet_v2``."""

DEEPLAB_V3_PLUS = KeyTable(
    prefixes={
        **{
            ours: f"backbone.{'low' if int(theirs.split('.')[1]) < 4 else 'high'}_level_{theirs}"
            for ours, theirs in TORCHVISION.prefixes.items()
            if not ours.startswith("backbone.last")
        },
        **{
            f"head.{layer}.{part}": f"classifier.{theirs}.{first + offset}"
            for layer, theirs, first in (
                ("low_level", "project", 0),
                ("aspp.pointwise", "aspp.convs.0", 0),
                *((f"aspp.atrous.{n}", f"aspp.convs.{n + 1}", 0) for n in range(3)),
                ("aspp.image_pooling", "aspp.convs.4", 1),
                ("projection", "aspp.project", 0),
                ("decoder.0", "classifier", 0),
            )
            for offset, part in enumerate(("conv", "norm"))
        },
        "head.logits": "classifier.classifier.3",
    },
    leaves=TORCHVISION.leaves,
)
"""Source: parameter names of ``deeplabv3plus_mobilenet`` in VainF/DeepLabV3Plus-Pytorch."""


def _timm_mobilenet(
    counts: Sequence[int], layers: Sequence[tuple[str, str]], first_layers: Sequence[tuple[str, str]], **ends: str
) -> KeyTable:
    """Return the table of a timm model from our layers -> its convolutions; its batch norms are numbered from 1."""
    blocks = {
        f"blocks.{n}.{ours}": (f"blocks.{stage}.{block}.{conv}", f"blocks.{stage}.{block}.bn{number}")
        for n, (stage, block) in enumerate(_positions(counts))
        for number, (ours, conv) in enumerate(layers if n else first_layers, start=1)
    }
    return _torch_table(blocks | {ours: (conv, f"bn{n}") for n, (ours, conv) in enumerate(ends.items(), start=1)})


_SEPARABLE = (("depthwise", "conv_dw"), ("pointwise", "conv_pw"))

TIMM_MOBILENET_V1 = _timm_mobilenet(V1_STAGES, _SEPARABLE, _SEPARABLE, stem="conv_stem")
"""Source: parameter names of ``timm.create_model("mobilenetv1_100")``."""

TIMM_MOBILENET_V2 = _timm_mobilenet(
    V2_STAGES,
    (("expand", "conv_pw"), ("depthwise", "conv_dw"), ("project", "conv_pwl")),
    (("depthwise", "conv_dw"), ("project", "conv_pw")),
    stem="conv_stem",
    last="conv_head",
)
"""Source: parameter names of ``timm.create_model("mobilenetv2_100")``."""


def _resnet(units: Sequence[int], stem: Mapping[str, tuple[str, str]]) -> KeyTable:
    layers = dict(stem)
    for n, (stage, unit) in enumerate(_positions(units)):
        theirs = f"layer{stage + 1}.{unit}"
        for number, part in enumerate(("reduce", "spatial", "expand"), start=1):
            layers[f"units.{n}.{part}"] = (f"{theirs}.conv{number}", f"{theirs}.bn{number}")
        if unit == 0:
            layers[f"units.{n}.projection"] = (f"{theirs}.downsample.0", f"{theirs}.downsample.1")
    return _torch_table(layers)


def torchvision_resnet(units: Sequence[int]) -> KeyTable:
    """Return the table of torchvision's bottleneck ResNet with these numbers of units per stage; timm's is the same.

    Source: parameter names of ``torchvision.models.resnet101``.
    """
    return _resnet(units, {"stem.0": ("conv1", "bn1")})


def timm_deep_resnet(units: Sequence[int]) -> KeyTable:
    """Return the table of timm's bottleneck ResNet with a stem of three 3x3 convolutions.

    Source: parameter names of ``timm.create_model("resnet101s")``.
    """
    stem = {"stem.0": ("conv1.0", "conv1.1"), "stem.1": ("conv1.3", "conv1.4"), "stem.2": ("conv1.6", "bn1")}
    return _resnet(units, stem)


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
    {f"backbone.{layer}": layer for layer in _SHUFFLENET_V2_LAYERS}, {leaf: f".{leaf}" for leaf in NORM}
)
"""Source: parameter names of ``torchvision.models.shufflenet_v2_x1_0``, which are the backbone's own."""
