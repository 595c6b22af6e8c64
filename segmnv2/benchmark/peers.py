"""Models of other libraries, from an image array to a label map as in their documentation."""

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

from segmnv2.backbones.backbone import complete_options
from segmnv2.models.model_file import load_model
from segmnv2.models.segmenter import Segmenter
from segmnv2.telemetry import quiet
from segmnv2.weights.key_tables import HUGGING_FACE

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

Batch = UInt8[np.ndarray, "b h w 3"]


@dataclass(frozen=True)
class Peer:
    """A model of another library.

    Attributes:
        package: package that must be installed.
        build: (classes, output stride, file of weights) -> the model.
        strides: its output strides.
        note: its name in that library, and differences from this library's model.
    """

    package: str
    build: Callable[[int, int, str | None], PeerNetwork]
    strides: tuple[int, ...]
    note: str

    @property
    def installed(self) -> bool:
        """Whether the package is installed."""
        return importlib.util.find_spec(self.package) is not None


class PeerNetwork(nn.Module):
    """A peer's model from images to label maps: normalization, model, resizing of the logits, argmax.

    Tensors are contiguous NCHW, as in all peers.

    Args:
        network: the model.
        read: takes the logits from the model's result.
        mean: mean of the normalization, for pixels in 0..1.
        std: divisor of the normalization.
        multiple: the model takes only sides that are multiples of this.
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

    def crop(self, tensor: Tensor) -> Tensor:
        """Return pixels or masks, contiguous, with their last two axes cut to sides that the model takes."""
        height, width = (side // self.multiple * self.multiple for side in tensor.shape[-2:])
        return tensor[..., :height, :width].contiguous()

    def prepare(self, images: Batch) -> Tensor:
        """Return images as the model takes them: uint8 (b, 3, h, w), contiguous."""
        return self.crop(torch.from_numpy(images).permute(0, 3, 1, 2))


def _transformers(classes: int, output_stride: int, weights: str | None) -> PeerNetwork:
    with quiet():  # it imports torchao, which warns
        from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation

    settings: dict[str, Any] = {"num_labels": classes, "output_stride": output_stride, "image_size": 513}
    network = MobileNetV2ForSemanticSegmentation(MobileNetV2Config(**settings))
    if weights is not None:
        copy_weights(load_model(weights), network)
    return PeerNetwork(network, lambda found: found.logits, HALF, HALF)


def is_transformers_model(model: Segmenter) -> bool:
    """Return whether a model is the one that transformers has: MobileNetV2 of width 1.0 without ASPP."""
    own = model.architecture
    if own is None or own.name != "deeplabv3_mobilenet_v2":
        return False
    papers = complete_options("mobilenet_v2", {})
    return {**papers, **own.backbone} == papers


def copy_weights(model: Segmenter, network: nn.Module) -> None:
    """Copy the weights of a model to transformers' model, in place.

    Args:
        model: one for which :func:`is_transformers_model` is true.
        network: ``MobileNetV2ForSemanticSegmentation``; its unused 1280-channel layer is unchanged.
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
        "transformers", _transformers, (8, 16), "MobileNetV2ForSemanticSegmentation, the same network"
    ),
    "smp": Peer("segmentation_models_pytorch", _smp, (8, 16), "DeepLabV3(mobilenet_v2), with ASPP, at 512"),
    "torchvision deeplabv3": Peer("torchvision", _torchvision(_V3), (16,), f"{_V3}, with ASPP"),
    "torchvision lraspp": Peer("torchvision", _torchvision(_LRASPP), (16,), _LRASPP),
}
"""Name -> peer. Peers that are not installed are omitted from comparisons."""
