"""Recognition of networks in TensorFlow checkpoints by names and shapes of variables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from segmnv2.backbones.mobilenet_v2 import MobileNetV2, stage_channels
from segmnv2.backbones.registry import create_backbone
from segmnv2.errors import WeightsError
from segmnv2.models.pixels import TENSORFLOW_NORMALIZATION, Normalization
from segmnv2.weights.key_tables import (
    TENSORFLOW,
    TENSORFLOW_MOBILENET_V1,
    TENSORFLOW_RESNET101,
    TENSORFLOW_RESNET101_7X7,
    KeyTable,
)
from segmnv2.weights.tensorflow_checkpoint import TensorFlowCheckpoint

V1_WIDTHS = (1.0, 0.75, 0.5, 0.25)
V2_WIDTHS = (1.0, 0.35, 0.5, 0.75, 1.3, 1.4, 0.25)
V2_DIVISORS = (8, 1)
SLIM_MEAN = Normalization((123.68, 116.779, 103.939), (1.0, 1.0, 1.0))
"""Source: slim/preprocessing/vgg_preprocessing.py."""
DEEPLAB_MEAN = Normalization((123.15, 115.90, 103.06), (1.0, 1.0, 1.0))
"""Source: ``_MEAN_RGB`` of research/deeplab/core/feature_extractor.py."""

LOGITS = "logits/semantic/weights"


@dataclass(frozen=True)
class TensorFlowFamily:
    """Networks of one name scope.

    Attributes:
        sign: a variable that only they have.
        backbone: its name here.
        table: our names to theirs, of the backbone and of DeepLab's head.
        classifier: what the names of ImageNet's last layer begin with.
        options: reads the backbone's arguments off a checkpoint.
        normalization: of the pixels in DeepLab's networks.
        classifier_normalization: of the pixels in slim's classifiers.
        what: the network in words.
    """

    sign: str
    backbone: str
    table: KeyTable
    classifier: str
    options: Callable[[TensorFlowCheckpoint], dict[str, Any]]
    normalization: Normalization
    classifier_normalization: Normalization
    what: str


def find_family(checkpoint: TensorFlowCheckpoint) -> TensorFlowFamily:
    """Return the family that a checkpoint is of.

    Raises:
        WeightsError: it is of none; what is in it and what can be imported is said.
    """
    for family in FAMILIES:
        if family.sign in checkpoint:
            return family
    some = ", ".join(checkpoint.names[:3])
    known = ", ".join(family.what for family in FAMILIES)
    raise WeightsError(
        f"{checkpoint.path}: no network that can be imported; its {len(checkpoint.names)} variables ({some}, ...) "
        f"do not have {' or '.join(family.sign for family in FAMILIES)}; give slim's or DeepLab's {known}"
    )


def _v2_options(checkpoint: TensorFlowCheckpoint) -> dict[str, Any]:
    """Return width and divisor whose channels are the checkpoint's."""
    names = ["MobilenetV2/Conv/weights"]
    names += [f"MobilenetV2/expanded_conv{f'_{n}' if n else ''}/project/weights" for n in MobileNetV2.stage_starts()]
    found = tuple(_channels(checkpoint, names, "MobileNetV2"))
    last = {"last_conv": True} if "MobilenetV2/Conv_1/weights" in checkpoint else {}
    for width in V2_WIDTHS:
        for divisor in V2_DIVISORS:
            if stage_channels(width, divisor) == found:
                return {**({} if width == 1.0 else {"width": width, "channel_divisor": divisor}), **last}
    raise _no_width(checkpoint, found, V2_WIDTHS, "MobileNetV2")


def _v1_options(checkpoint: TensorFlowCheckpoint) -> dict[str, Any]:
    """Return the width whose channels are the checkpoint's."""
    names = [f"MobilenetV1/Conv2d_{n}_pointwise/weights" for n in range(1, 14)]
    found = tuple(_channels(checkpoint, ["MobilenetV1/Conv2d_0/weights", *names], "MobileNetV1"))
    for width in V1_WIDTHS:
        with torch.device("meta"):
            own = create_backbone("mobilenet_v1", width=width).state_dict()
        layers = ["stem", *(f"blocks.{n}.pointwise" for n in range(13))]
        if tuple(own[f"{layer}.conv.weight"].shape[0] for layer in layers) == found:
            return {} if width == 1.0 else {"width": width}
    raise _no_width(checkpoint, found, V1_WIDTHS, "MobileNetV1")


def _resnet_options(checkpoint: TensorFlowCheckpoint, stem: str) -> dict[str, Any]:
    """Return the stem, and that ImageNet's network does not dilate; loading refuses other units than ResNet-101's."""
    undilated = {} if LOGITS in checkpoint else {"multi_grid": (1, 1, 1)}
    return {**({} if stem == "deep" else {"stem": stem}), **undilated}


def _channels(checkpoint: TensorFlowCheckpoint, names: Sequence[str], what: str) -> Iterator[int]:
    """Yield the output channels of convolutions.

    Raises:
        WeightsError: one is not there.
    """
    absent = [name for name in names if name not in checkpoint]
    if absent:
        some = ", ".join(checkpoint.names[:3])
        raise WeightsError(
            f"{checkpoint.path}: is no {what}: variable '{absent[0]}' is not among its {len(checkpoint.names)} "
            f"({some}, ...); give a checkpoint of DeepLab's or slim's {what}"
        )
    for name in names:
        yield output_channels(checkpoint, name)


def output_channels(checkpoint: TensorFlowCheckpoint, name: str) -> int:
    """Return the output channels of a convolution.

    Raises:
        WeightsError: the variable has not the shape of a convolution's weights.
    """
    shape = checkpoint.shape(name)
    if len(shape) != 4 or not all(shape):
        raise WeightsError(
            f"{checkpoint.path}: '{name}' has shape {shape}, not that of a convolution; fetch the checkpoint again"
        )
    return shape[-1]


def _no_width(
    checkpoint: TensorFlowCheckpoint, found: Sequence[int], widths: Sequence[float], what: str
) -> WeightsError:
    return WeightsError(
        f"{checkpoint.path}: its stages have {', '.join(map(str, found))} channels, which no width among "
        f"{', '.join(map(str, sorted(widths)))} gives; only {what} of these widths can be imported"
    )


FAMILIES = (
    TensorFlowFamily(
        "MobilenetV2/Conv/weights",
        "mobilenet_v2",
        TENSORFLOW,
        "MobilenetV2/Logits/",
        _v2_options,
        TENSORFLOW_NORMALIZATION,
        TENSORFLOW_NORMALIZATION,
        "MobileNetV2",
    ),
    TensorFlowFamily(
        "MobilenetV1/Conv2d_0/weights",
        "mobilenet_v1",
        TENSORFLOW_MOBILENET_V1,
        "MobilenetV1/Logits/",
        _v1_options,
        TENSORFLOW_NORMALIZATION,
        TENSORFLOW_NORMALIZATION,
        "MobileNetV1",
    ),
    TensorFlowFamily(
        "resnet_v1_101/conv1_1/weights",
        "resnet101",
        TENSORFLOW_RESNET101,
        "resnet_v1_101/logits/",
        partial(_resnet_options, stem="deep"),
        TENSORFLOW_NORMALIZATION,
        TENSORFLOW_NORMALIZATION,
        "ResNet-101 (beta)",
    ),
    TensorFlowFamily(
        "resnet_v1_101/conv1/weights",
        "resnet101",
        TENSORFLOW_RESNET101_7X7,
        "resnet_v1_101/logits/",
        partial(_resnet_options, stem="7x7"),
        DEEPLAB_MEAN,
        SLIM_MEAN,
        "ResNet-101",
    ),
)
"""Source of DeepLab's normalizations: ``_PREPROCESS_FN`` of research/deeplab/core/feature_extractor.py."""
