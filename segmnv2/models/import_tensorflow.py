"""TensorFlow's MobileNetV2 checkpoints: DeepLab's segmentation networks and slim's ImageNet ones."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segmnv2.backbones.mobilenet_v2 import MobileNetV2, stage_channels
from segmnv2.backbones.registry import create_backbone
from segmnv2.errors import WeightsError
from segmnv2.labels import VOC_LABELS
from segmnv2.models.architecture import Architecture
from segmnv2.models.catalogue import build_model
from segmnv2.models.import_source import Source
from segmnv2.models.normalization import TENSORFLOW_NORMALIZATION
from segmnv2.weights.tables import TENSORFLOW
from segmnv2.weights.tensorflow_checkpoint import TensorFlowCheckpoint, VariableKind, classify

WIDTHS = (1.0, 0.35, 0.5, 0.75, 1.3, 1.4, 0.25)
DIVISORS = (8, 1)
LOGITS = "logits/semantic/weights"
CLASSIFIER = "MobilenetV2/Logits/"
EMA = "/ExponentialMovingAverage"


def read_tensorflow(path: str | Path, *, ema: bool = False) -> Source:
    """Read a checkpoint and find out which network it belongs to.

    The width is read off the shapes, ASPP and the number of classes off the names. Momentum, moving averages, the
    global step and ImageNet's classifier are recognised and left out; any other variable that the network has
    no place for stays under its own name, to be reported.

    Args:
        path: prefix, one of the checkpoint's files, or its folder.
        ema: take moving averages in place of the weights.

    Raises:
        WeightsError: missing, damaged, not MobileNetV2, of a width that cannot be told, or without moving averages.
    """
    checkpoint = TensorFlowCheckpoint.open(path)
    kinds = {name: classify(name) for name in checkpoint.names}
    weights = [name for name, kind in kinds.items() if kind is VariableKind.WEIGHT]
    skipped = Counter(kind.value for kind in kinds.values() if kind is not VariableKind.WEIGHT)
    classifier = [name for name in weights if name.startswith(CLASSIFIER)]
    if classifier:
        skipped["ImageNet classifier"] = len(classifier)
    architecture = _describe(checkpoint)
    names = TENSORFLOW.ours(_own_names(architecture))
    tensors = {
        names.get(name, name): _read(checkpoint, name, ema=ema) for name in weights if name not in set(classifier)
    }
    backbone_only = LOGITS not in checkpoint
    return Source(
        name=str(path),
        architecture=architecture,
        tensors=tensors,
        normalization=TENSORFLOW_NORMALIZATION,
        labels=VOC_LABELS if not backbone_only and architecture.num_classes == VOC_LABELS.num_classes else None,
        backbone_only=backbone_only,
        skipped=dict(skipped),
        provenance=_provenance(checkpoint, ema),
    )


def _describe(checkpoint: TensorFlowCheckpoint) -> Architecture:
    width, divisor = _find_width(checkpoint)
    options: dict[str, Any] = {}
    if width != 1.0:
        options |= {"width": width, "channel_divisor": divisor}
    if "MobilenetV2/Conv_1/weights" in checkpoint:
        options["last_conv"] = True
    if LOGITS not in checkpoint:
        return Architecture("mobilenet_v2", 0, 32, options)
    # Separable ASPP branches are called aspp1_depthwise and aspp1_pointwise; they end up unexpected.
    aspp = any(name.startswith("aspp1") for name in checkpoint.names)
    name = "deeplabv3_mobilenet_v2_aspp" if aspp else "deeplabv3_mobilenet_v2"
    return Architecture(name, checkpoint.shape(LOGITS)[-1], 16, options)


def _find_width(checkpoint: TensorFlowCheckpoint) -> tuple[float, int]:
    """Return the width multiplier and the divisor whose channels are the checkpoint's."""
    found = tuple(_stage_shapes(checkpoint))
    for width in WIDTHS:
        for divisor in DIVISORS:
            if stage_channels(width, divisor) == found:
                return width, divisor
    raise WeightsError(
        f"{checkpoint.path}: its stages have {', '.join(map(str, found))} channels, which no width among "
        f"{', '.join(map(str, sorted(WIDTHS)))} gives; only MobileNetV2 of these widths can be imported"
    )


def _stage_shapes(checkpoint: TensorFlowCheckpoint) -> Iterator[int]:
    names = ["MobilenetV2/Conv/weights"]
    names += [f"MobilenetV2/expanded_conv{f'_{n}' if n else ''}/project/weights" for n in MobileNetV2.stage_starts()]
    absent = [name for name in names if name not in checkpoint]
    if absent:
        some = ", ".join(checkpoint.names[:3])
        raise WeightsError(
            f"{checkpoint.path}: is no MobileNetV2: variable '{absent[0]}' is not among its {len(checkpoint.names)} "
            f"({some}, ...); give a checkpoint of DeepLab's or slim's MobileNetV2"
        )
    for name in names:
        yield checkpoint.shape(name)[-1]


def _own_names(architecture: Architecture) -> list[str]:
    with torch.device("meta"):
        if architecture.num_classes:
            return list(build_model(architecture).state_dict())
        backbone = create_backbone(architecture.name, output_stride=32, **architecture.backbone)
        return [f"backbone.{name}" for name in backbone.state_dict()]


def _read(checkpoint: TensorFlowCheckpoint, name: str, *, ema: bool) -> Tensor:
    """Read a variable in torch's order of axes; TensorFlow keeps kernels as (h, w, in, out)."""
    moving = name.endswith(("/moving_mean", "/moving_variance"))
    if ema and not moving:
        if name + EMA not in checkpoint:
            raise WeightsError(
                f"{checkpoint.path}: has no moving average of '{name}'; import it without --ema to take the weights"
            )
        name += EMA
    value = checkpoint.read(name).float()
    if value.dim() != 4:
        return value
    return value.permute(2, 3, 0, 1) if "depthwise_weights" in name else value.permute(3, 2, 0, 1)


def _provenance(checkpoint: TensorFlowCheckpoint, ema: bool) -> dict[str, Any]:
    files = sorted(checkpoint.path.parent.glob(f"{checkpoint.path.name}.*"))
    sums = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.suffix != ".meta"}
    step = int(checkpoint.read("global_step")) if "global_step" in checkpoint else None
    return {
        "format": "TensorFlow V2 checkpoint",
        "source": checkpoint.path.name,
        "sha256": sums,
        "global_step": step,
        "moving_averages": ema,
    }
