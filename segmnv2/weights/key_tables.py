"""Foreign names of our networks' tensors: one table for each code base, readable in both directions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

BLOCKS = 17
NORM = {"weight": "weight", "bias": "bias", "running_mean": "running_mean", "running_var": "running_var"}
_TF_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


@dataclass(frozen=True)
class KeyTable:
    """Names of tensors, ours to theirs: a module's prefix and a leaf below it, each translated by a table.

    Attributes:
        prefixes: our module's path -> theirs.
        leaves: the rest of our name, below the module -> theirs.
    """

    prefixes: Mapping[str, str]
    leaves: Mapping[str, str]

    def theirs(self, names: Iterable[str]) -> dict[str, str]:
        """Return our name -> their name for those of ``names`` that the table knows, one to one."""
        found = {}
        for name in names:
            for cut in (i for i, letter in enumerate(name) if letter == "."):
                prefix, leaf = name[:cut], name[cut + 1 :]
                if prefix in self.prefixes and leaf in self.leaves:
                    found[name] = self.prefixes[prefix] + self.leaves[leaf]
        assert len(set(found.values())) == len(found), "two of our tensors have one name in the table"
        return found

    def ours(self, names: Iterable[str]) -> dict[str, str]:
        """Return their name -> our name for all of ``names``, our names being given."""
        return {theirs: ours for ours, theirs in self.theirs(names).items()}


def _leaves(conv: str, norm: str, names: Mapping[str, str]) -> dict[str, str]:
    return {"conv.weight": conv, **{f"norm.{ours}": norm + theirs for ours, theirs in names.items()}}


TENSORFLOW_LEAVES = _leaves("/weights", "/BatchNorm/", _TF_NORM)

TENSORFLOW_HEAD = {
    "head.aspp.image_pooling": "image_pooling",
    "head.aspp.pointwise": "aspp0",
    **{f"head.aspp.atrous.{n}": f"aspp{n + 1}" for n in range(3)},
    "head.projection": "concat_projection",
    "head.logits": "logits/semantic",
}
TENSORFLOW_HEAD_LEAVES = {**TENSORFLOW_LEAVES, "weight": "/weights", "bias": "/biases"}
"""Source: variable names of tensorflow/models research/deeplab/model.py."""

TENSORFLOW = KeyTable(
    prefixes={
        "backbone.stem": "MobilenetV2/Conv",
        "backbone.blocks.0": "MobilenetV2/expanded_conv",
        **{f"backbone.blocks.{n}": f"MobilenetV2/expanded_conv_{n}" for n in range(1, BLOCKS)},
        "backbone.last": "MobilenetV2/Conv_1",
        **TENSORFLOW_HEAD,
    },
    leaves={
        **TENSORFLOW_HEAD_LEAVES,
        **{
            f"{layer}.{k}": f"/{layer}{v}"
            for layer in ("expand", "depthwise", "project")
            for k, v in TENSORFLOW_LEAVES.items()
        },
        "depthwise.conv.weight": "/depthwise/depthwise_weights",
    },
)
"""Source: variable names of tensorflow/models research/slim (MobilenetV2)."""

_HF_LAYERS = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}

HUGGING_FACE = KeyTable(
    prefixes={
        "backbone.stem": "mobilenet_v2.conv_stem.first_conv",
        **{f"backbone.blocks.0.{ours}": f"mobilenet_v2.conv_stem.{theirs}" for ours, theirs in _HF_LAYERS.items()},
        **{
            f"backbone.blocks.{n}.{ours}": f"mobilenet_v2.layer.{n - 1}.{theirs}"
            for n in range(1, BLOCKS)
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

_TORCHVISION_LEAVES = {
    0: {"expand": ("", ""), "depthwise": (".conv.0.0", ".conv.0.1"), "project": (".conv.1", ".conv.2")},
    1: {
        "expand": (".conv.0.0", ".conv.0.1"),
        "depthwise": (".conv.1.0", ".conv.1.1"),
        "project": (".conv.2", ".conv.3"),
    },
}

TORCHVISION = KeyTable(
    prefixes={
        "backbone.stem.conv": "features.0.0",
        "backbone.stem.norm": "features.0.1",
        **{
            f"backbone.blocks.{n}.{layer}.{part}": f"features.{n + 1}{name}"
            for n in range(BLOCKS)
            for layer, names in _TORCHVISION_LEAVES[min(n, 1)].items()
            for part, name in zip(("conv", "norm"), names, strict=True)
            if name
        },
        "backbone.last.conv": "features.18.0",
        "backbone.last.norm": "features.18.1",
    },
    leaves={ours: f".{theirs}" for ours, theirs in NORM.items()},
)
"""Source: parameter names of ``torchvision.models.mobilenet_v2``."""

_PARTS = ("conv", "norm")

DEEPLAB_V3_PLUS = KeyTable(
    prefixes={
        **{
            ours: f"backbone.{'low' if int(theirs.split('.')[1]) < 4 else 'high'}_level_{theirs}"
            for ours, theirs in TORCHVISION.prefixes.items()
            if not ours.startswith("backbone.last")
        },
        **{
            f"head.{layer}.{part}": f"classifier.{theirs}.{first + place}"
            for layer, theirs, first in (
                ("low_level", "project", 0),
                ("aspp.pointwise", "aspp.convs.0", 0),
                *((f"aspp.atrous.{n}", f"aspp.convs.{n + 1}", 0) for n in range(3)),
                ("aspp.image_pooling", "aspp.convs.4", 1),
                ("projection", "aspp.project", 0),
                ("decoder.0", "classifier", 0),
            )
            for place, part in enumerate(_PARTS)
        },
        "head.logits": "classifier.classifier.3",
    },
    leaves=TORCHVISION.leaves,
)
"""Source: parameter names of ``deeplabv3plus_mobilenet`` in VainF/DeepLabV3Plus-Pytorch."""
