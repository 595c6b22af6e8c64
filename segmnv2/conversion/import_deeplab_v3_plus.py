"""DeepLabv3+ on MobileNetV2 from PyTorch state dicts with the names of the widely used implementation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from segmnv2.conversion.import_source import Source
from segmnv2.errors import WeightsError
from segmnv2.heads.deeplab_v3_plus import LOW_LEVEL_CHANNELS
from segmnv2.models.architecture import Architecture
from segmnv2.models.catalog import build_model
from segmnv2.models.pixels import IMAGENET_NORMALIZATION
from segmnv2.weights.key_tables import DEEPLAB_V3_PLUS

MARK = "backbone.low_level_features."
"""Names of these checkpoints begin so, and those of no other."""

NOTE = (
    "these weights were trained without padding before the first layer and without aligned corners; labels differ from "
    "those of the original code along borders"
)


def is_deeplab_v3_plus(names: Mapping[str, Tensor]) -> bool:
    """Return whether tensors have the names of this module's checkpoints."""
    return any(name.startswith(MARK) for name in names)


def read_deeplab_v3_plus(path: Path, theirs: Mapping[str, Tensor]) -> Source:
    """Return a checkpoint under our names.

    Args:
        path: file that messages name.
        theirs: all tensors of it, batch counts apart.

    Raises:
        WeightsError: it has another backbone than MobileNetV2 of width 1, or another decoder.

    Source: names of ``deeplabv3plus_mobilenet`` in VainF/DeepLabV3Plus-Pytorch. It concatenates the image-level
    feature after the other branches, and the low-level features before the others.
    """
    logits = theirs.get("classifier.classifier.3.weight")
    if logits is None or logits.dim() != 4:
        raise WeightsError(
            f"{path}: has DeepLabv3+'s backbone, but not its decoder (no classifier.classifier.3.weight with 4 axes); "
            "separable decoders cannot be imported"
        )
    architecture = Architecture(
        "deeplabv3plus_mobilenet_v2_aspp",
        logits.shape[0],
        16,
        {"padding": "symmetric", "norm_eps": 1e-5},
        {"refinements": 1, "align_corners": False},
    )
    with torch.device("meta"):
        own = build_model(architecture).state_dict()
    names = DEEPLAB_V3_PLUS.ours(own)
    tensors = {names.get(name, name): value for name, value in theirs.items()}
    for name, first in (("head.projection", 4 * 256), ("head.decoder.0", LOW_LEVEL_CHANNELS)):
        key = f"{name}.conv.weight"
        if key in tensors and tensors[key].shape == own[key].shape:
            tensors[key] = tensors[key].roll(-first, dims=1)
    return Source(
        name=str(path),
        architecture=architecture,
        tensors=tensors,
        normalization=IMAGENET_NORMALIZATION,
        note=NOTE,
        provenance={"format": "DeepLabv3+ state dict", "source": path.name},
    )
