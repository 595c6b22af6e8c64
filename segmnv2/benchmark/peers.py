"""Other libraries' networks, from an image array to a label map as their documentation does it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor, nn

from segmnv2.models.model_file import load_model
from segmnv2.models.segmenter import Segmenter
from segmnv2.telemetry import quiet
from segmnv2.weights.key_tables import HUGGING_FACE

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

Batch = UInt8[np.ndarray, "b h w 3"]


@dataclass(frozen=True)
class Peer:
    """A network of another library.

    Attributes:
        package: package that must be installed.
        build: (classes, output stride, weights' file) -> the network and what it takes, see :class:`PeerNetwork`.
        strides: output strides that it has.
        note: how it differs from ours.
    """

    package: str
    build: Callable[[int, int, str | None], PeerNetwork]
    strides: tuple[int, ...]
    note: str

    @property
    def installed(self) -> bool:
        """Whether it can be measured here."""
        return importlib.util.find_spec(self.package) is not None


class PeerNetwork(nn.Module):
    """Images in, label maps out: normalization, network, enlargement, argmax; NCHW, as all peers hold their tensors.

    ``read`` takes the logits from what the network returns. Mean and deviation are of pixels in 0..1. Sides are cut to
    multiples of ``multiple``, where the network refuses others.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        read: Callable[[Any], Tensor],
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        multiple: int = 1,
    ) -> None:
        super().__init__()
        self.network, self.read, self.multiple = network, read, multiple
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return labels (b, h, w), int64, of uint8 pixels (b, 3, h, w)."""
        logits = self.read(self.network((pixels.to(self.mean.dtype) / 255 - self.mean) / self.std))
        if logits.shape[-2:] != pixels.shape[-2:]:
            logits = F.interpolate(logits, pixels.shape[-2:], mode="bilinear", align_corners=False)
        return logits.argmax(1)

    def prepare(self, images: Batch) -> Tensor:
        """Return images as the network takes them: uint8 (b, 3, h, w), contiguous."""
        height, width = (side // self.multiple * self.multiple for side in images.shape[1:3])
        return torch.from_numpy(images[:, :height, :width]).permute(0, 3, 1, 2).contiguous()


def _transformers(classes: int, output_stride: int, weights: str | None) -> PeerNetwork:
    with quiet():  # torchao, which it imports, warns of itself
        from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation

    settings: dict[str, Any] = {"num_labels": classes, "output_stride": output_stride, "image_size": 513}
    network = MobileNetV2ForSemanticSegmentation(MobileNetV2Config(**settings))
    if weights is not None:
        copy_weights(load_model(weights), network)
    return PeerNetwork(network, lambda found: found.logits, HALF, HALF)


def copy_weights(model: Segmenter, network: nn.Module) -> None:
    """Give transformers' network the weights of ours, in place.

    Args:
        model: ``deeplabv3_mobilenet_v2``, without ASPP, which transformers' has not.
        network: ``MobileNetV2ForSemanticSegmentation``; its 1280-channel layer, which plays no part, stays.
    """
    tensors = model.state_dict()
    names = HUGGING_FACE.theirs(tensors)
    network.load_state_dict({theirs: tensors[ours] for ours, theirs in names.items()}, strict=False)


def _smp(classes: int, output_stride: int, _weights: str | None) -> PeerNetwork:
    import segmentation_models_pytorch as smp

    stride: Any = output_stride
    network = smp.DeepLabV3("mobilenet_v2", encoder_weights=None, encoder_output_stride=stride, classes=classes)
    return PeerNetwork(network, lambda found: found, multiple=8)


def _torchvision(name: str) -> Callable[[int, int, str | None], PeerNetwork]:
    def build(classes: int, _output_stride: int, _weights: str | None) -> PeerNetwork:
        from torchvision.models import segmentation

        network = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=classes)
        return PeerNetwork(network, lambda found: found["out"])

    return build


_V3, _LRASPP = "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"

PEERS: dict[str, Peer] = {
    "transformers": Peer(
        "transformers", _transformers, (8, 16), "MobileNetV2ForSemanticSegmentation, this very network"
    ),
    "smp": Peer("segmentation_models_pytorch", _smp, (8, 16), "DeepLabV3(mobilenet_v2), with ASPP, at 512"),
    "torchvision deeplabv3": Peer("torchvision", _torchvision(_V3), (16,), f"{_V3}, with ASPP"),
    "torchvision lraspp": Peer("torchvision", _torchvision(_LRASPP), (16,), _LRASPP),
}
"""Name -> peer. What is not installed is left out of a comparison."""
