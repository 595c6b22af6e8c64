"""Import of TensorFlow's checkpoints: DeepLab's segmentation models and slim's ImageNet models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segmnv2.backbones.backbone import create_backbone
from segmnv2.backbones.mobilenet_v2 import MobileNetV2, stage_channels
from segmnv2.conversion.import_source import Source, own_tensors
from segmnv2.errors import WeightsError
from segmnv2.files.checksum import file_sha256
from segmnv2.labels import VOC_LABELS
from segmnv2.models.architecture import Architecture
from segmnv2.models.pixels import TENSORFLOW_NORMALIZATION, Normalization
from segmnv2.weights.key_tables import (
    TENSORFLOW,
    TENSORFLOW_MOBILENET_V1,
    TENSORFLOW_RESNET101,
    TENSORFLOW_RESNET101_7X7,
    KeyTable,
)
from segmnv2.weights.tensorflow_checkpoint import TensorFlowCheckpoint, VariableKind, classify

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
    """Models with one name scope.

    Attributes:
        title: name of the architecture in messages.
        marker: name of a variable that only this family has.
        backbone: name of the backbone in this library.
        table: our names -> theirs, for the backbone and DeepLab's head.
        classifier: prefix of the names of ImageNet's last layer.
        options: function that returns the backbone's arguments for a checkpoint.
        normalization: normalization of pixels in DeepLab's models.
        classifier_normalization: normalization of pixels in slim's classifiers.
    """

    title: str
    marker: str
    backbone: str
    table: KeyTable
    classifier: str
    options: Callable[[TensorFlowCheckpoint], dict[str, Any]]
    normalization: Normalization = TENSORFLOW_NORMALIZATION
    classifier_normalization: Normalization = TENSORFLOW_NORMALIZATION


def find_family(checkpoint: TensorFlowCheckpoint) -> TensorFlowFamily:
    """Return the family of a checkpoint.

    Raises:
        WeightsError: the family is unknown; the message names some variables and the known families.
    """
    for family in FAMILIES:
        if family.marker in checkpoint:
            return family
    some = ", ".join(checkpoint.names[:3])
    known = ", ".join(family.title for family in FAMILIES)
    raise WeightsError(
        f"{checkpoint.path}: no model that can be imported; its {len(checkpoint.names)} variables ({some}, ...) do not "
        f"have {' or '.join(family.marker for family in FAMILIES)}; give slim's or DeepLab's {known}"
    )


def _v2_options(checkpoint: TensorFlowCheckpoint) -> dict[str, Any]:
    """Return the width and the divisor that give the channels of a checkpoint."""
    names = ["MobilenetV2/Conv/weights"]
    names += [f"MobilenetV2/expanded_conv{f'_{n}' if n else ''}/project/weights" for n in MobileNetV2.stage_starts()]
    channels = _channels(checkpoint, names, "MobileNetV2")
    last = {"last_conv": True} if "MobilenetV2/Conv_1/weights" in checkpoint else {}
    for width in V2_WIDTHS:
        for divisor in V2_DIVISORS:
            if stage_channels(width, divisor) == channels:
                return {**({} if width == 1.0 else {"width": width, "channel_divisor": divisor}), **last}
    raise _no_width(checkpoint, channels, V2_WIDTHS, "MobileNetV2")


def _v1_options(checkpoint: TensorFlowCheckpoint) -> dict[str, Any]:
    """Return the width that gives the channels of a checkpoint."""
    names = [f"MobilenetV1/Conv2d_{n}_pointwise/weights" for n in range(1, 14)]
    channels = _channels(checkpoint, ["MobilenetV1/Conv2d_0/weights", *names], "MobileNetV1")
    for width in V1_WIDTHS:
        with torch.device("meta"):
            own = create_backbone("mobilenet_v1", width=width).state_dict()
        layers = ["stem", *(f"blocks.{n}.pointwise" for n in range(13))]
        if tuple(own[f"{layer}.conv.weight"].shape[0] for layer in layers) == channels:
            return {} if width == 1.0 else {"width": width}
    raise _no_width(checkpoint, channels, V1_WIDTHS, "MobileNetV1")


def _resnet_options(checkpoint: TensorFlowCheckpoint, stem: str) -> dict[str, Any]:
    """Return the stem, and no multi-grid for ImageNet models; loading refuses other units than ResNet-101's."""
    undilated = {} if LOGITS in checkpoint else {"multi_grid": (1, 1, 1)}
    return {**({} if stem == "deep" else {"stem": stem}), **undilated}


def _channels(checkpoint: TensorFlowCheckpoint, names: Sequence[str], title: str) -> tuple[int, ...]:
    """Return the output channels of convolutions, all of which must be in the checkpoint."""
    absent = [name for name in names if name not in checkpoint]
    if absent:
        some = ", ".join(checkpoint.names[:3])
        raise WeightsError(
            f"{checkpoint.path}: is not a {title}: variable '{absent[0]}' is not among its {len(checkpoint.names)} "
            f"({some}, ...); give a checkpoint of DeepLab's or slim's {title}"
        )
    return tuple(output_channels(checkpoint, name) for name in names)


def output_channels(checkpoint: TensorFlowCheckpoint, name: str) -> int:
    """Return the output channels of a convolution.

    Raises:
        WeightsError: the variable does not have the shape of a convolution's weights.
    """
    shape = checkpoint.shape(name)
    if len(shape) != 4 or not all(shape):
        raise WeightsError(
            f"{checkpoint.path}: '{name}' has shape {shape}, not that of a convolution; fetch the checkpoint again"
        )
    return shape[-1]


def _no_width(
    checkpoint: TensorFlowCheckpoint, channels: Sequence[int], widths: Sequence[float], title: str
) -> WeightsError:
    return WeightsError(
        f"{checkpoint.path}: its stages have {', '.join(map(str, channels))} channels, which no width among "
        f"{', '.join(map(str, sorted(widths)))} gives; only {title} of these widths can be imported"
    )


FAMILIES = (
    TensorFlowFamily(
        "MobileNetV2", "MobilenetV2/Conv/weights", "mobilenet_v2", TENSORFLOW, "MobilenetV2/Logits/", _v2_options
    ),
    TensorFlowFamily(
        "MobileNetV1",
        "MobilenetV1/Conv2d_0/weights",
        "mobilenet_v1",
        TENSORFLOW_MOBILENET_V1,
        "MobilenetV1/Logits/",
        _v1_options,
    ),
    TensorFlowFamily(
        "ResNet-101 (beta)",
        "resnet_v1_101/conv1_1/weights",
        "resnet101",
        TENSORFLOW_RESNET101,
        "resnet_v1_101/logits/",
        partial(_resnet_options, stem="deep"),
    ),
    TensorFlowFamily(
        "ResNet-101",
        "resnet_v1_101/conv1/weights",
        "resnet101",
        TENSORFLOW_RESNET101_7X7,
        "resnet_v1_101/logits/",
        partial(_resnet_options, stem="7x7"),
        DEEPLAB_MEAN,
        SLIM_MEAN,
    ),
)
"""Source of DeepLab's normalizations: ``_PREPROCESS_FN`` of research/deeplab/core/feature_extractor.py."""


EMA = "/ExponentialMovingAverage"


def read_tensorflow(path: str | Path, *, ema: bool = False) -> Source:
    """Read a checkpoint and recognize its model.

    Names and shapes of the variables give the architecture, its width, ASPP and the number of classes. The paper gives
    the rest: output stride 16, and a multi-grid of 1, 2, 4 for ResNet-101. Momentum, moving averages, the global step
    and ImageNet's classifier are left out. Any other variable that the model does not have keeps its own name, so that
    loading reports it.

    Args:
        path: prefix, one of the checkpoint's files, or its folder.
        ema: take moving averages in place of the weights.

    Raises:
        WeightsError: the checkpoint is missing or damaged, has an unknown architecture or width, or has no moving
            averages.
    """
    checkpoint = TensorFlowCheckpoint.open(path)
    kinds = {name: classify(name) for name in checkpoint.names}
    weights = [name for name, kind in kinds.items() if kind is VariableKind.WEIGHT]
    skipped = Counter(kind.value for kind in kinds.values() if kind is not VariableKind.WEIGHT)
    family = find_family(checkpoint)
    classifier = [name for name in weights if name.startswith(family.classifier)]
    if classifier:
        skipped["ImageNet classifier"] = len(classifier)
    architecture = _describe(checkpoint, family)
    names = family.table.ours(own_tensors(architecture))
    tensors = {
        names.get(name, name): _read(checkpoint, name, ema=ema) for name in weights if name not in set(classifier)
    }
    backbone_only = LOGITS not in checkpoint
    return Source(
        name=str(path),
        architecture=architecture,
        tensors=tensors,
        normalization=family.classifier_normalization if backbone_only else family.normalization,
        labels=VOC_LABELS if not backbone_only and architecture.num_classes == VOC_LABELS.num_classes else None,
        backbone_only=backbone_only,
        skipped=dict(skipped),
        provenance=_provenance(checkpoint, ema),
    )


def _describe(checkpoint: TensorFlowCheckpoint, family: TensorFlowFamily) -> Architecture:
    options = family.options(checkpoint)
    if LOGITS not in checkpoint:
        return Architecture(family.backbone, 0, 32, options)
    # Separable ASPP branches (aspp1_depthwise, aspp1_pointwise) are not supported; loading reports them as unexpected.
    aspp = "_aspp" if any(name.startswith("aspp1") for name in checkpoint.names) else ""
    return Architecture(f"deeplabv3_{family.backbone}{aspp}", output_channels(checkpoint, LOGITS), 16, options)


def _read(checkpoint: TensorFlowCheckpoint, name: str, *, ema: bool) -> Tensor:
    """Read a variable in torch's order of axes; TensorFlow stores kernels as (h, w, in, out)."""
    moving = name.endswith(("/moving_mean", "/moving_variance"))
    if ema and not moving:
        if name + EMA not in checkpoint:
            raise WeightsError(
                f"{checkpoint.path}: has no moving average of '{name}'; import it without --ema to take the weights"
            )
        name += EMA
    value = checkpoint.read(name)
    if not value.is_floating_point():
        raise WeightsError(
            f"{checkpoint.path}: '{name}' is of type {value.dtype}; only floating-point weights are read"
        )
    value = value.float()
    if value.dim() != 4:
        return value
    return value.permute(2, 3, 0, 1) if "depthwise_weights" in name else value.permute(3, 2, 0, 1)


def _provenance(checkpoint: TensorFlowCheckpoint, ema: bool) -> dict[str, Any]:
    files = sorted(checkpoint.path.parent.glob(f"{checkpoint.path.name}.*"))
    sums = {f.name: file_sha256(f) for f in files if f.suffix != ".meta"}
    step = checkpoint.read("global_step") if "global_step" in checkpoint else None
    if step is not None and (step.numel() != 1 or step.is_floating_point()):
        raise WeightsError(
            f"{checkpoint.path}: global_step is {step.dtype} of shape {tuple(step.shape)}, not an integer"
        )
    return {
        "format": "TensorFlow V2 checkpoint",
        "source": checkpoint.path.name,
        "sha256": sums,
        "global_step": None if step is None else int(step),
        "moving_averages": ema,
    }
