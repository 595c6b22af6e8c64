"""TensorFlow's checkpoints: DeepLab's segmentation networks and slim's ImageNet ones."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segmnv2.backbones.registry import create_backbone
from segmnv2.conversion.import_source import Source
from segmnv2.conversion.tensorflow_families import LOGITS, TensorFlowFamily, find_family, output_channels
from segmnv2.errors import WeightsError
from segmnv2.labels import VOC_LABELS
from segmnv2.models.architecture import Architecture
from segmnv2.models.catalog import build_model
from segmnv2.weights.tensorflow_checkpoint import TensorFlowCheckpoint, VariableKind, classify

EMA = "/ExponentialMovingAverage"


def read_tensorflow(path: str | Path, *, ema: bool = False) -> Source:
    """Read a checkpoint and find out which network it belongs to.

    Network and width are read off names and shapes, ASPP and the number of classes off the names. What a checkpoint
    does not say is as in the paper: output stride 16, and ResNet-101's multi-grid of 1, 2, 4. Momentum,
    moving averages, the global step and ImageNet's classifier are recognized and left out; any other variable that the
    network has no place for stays under its own name, to be reported.

    Args:
        path: prefix, one of the checkpoint's files, or its folder.
        ema: take moving averages in place of the weights.

    Raises:
        WeightsError: missing, damaged, of an unknown network or width, or without moving averages.
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
    names = family.table.ours(_own_names(architecture))
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
    # Separable ASPP branches are called aspp1_depthwise and aspp1_pointwise; they end up unexpected.
    aspp = "_aspp" if any(name.startswith("aspp1") for name in checkpoint.names) else ""
    return Architecture(f"deeplabv3_{family.backbone}{aspp}", output_channels(checkpoint, LOGITS), 16, options)


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
    sums = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.suffix != ".meta"}
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
