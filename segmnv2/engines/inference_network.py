"""The part of a segmentation network that engines run: RGB pixels in, logits at the head's stride out.

Batch norms folded into the convolutions before them: the same function with fewer steps.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segmnv2.models.segmenter import Segmenter
from segmnv2.nn.conv import ConvNormAct

T = TypeVar("T", bound=nn.Module)


def fold_norms(network: T) -> T:
    """Return a copy in evaluation mode whose batch norms are part of the convolutions before them.

    Every :class:`segmnv2.nn.conv.ConvNormAct` is folded. Norms that stand elsewhere (NASNet's, and those of timm's and
    smp's encoders) stay; they compute the same.

    Args:
        network: any module; it is not changed.
    """
    folded = copy.deepcopy(network).eval()
    for module in folded.modules():
        if isinstance(module, ConvNormAct) and isinstance(module.norm, _BatchNorm):
            # torch types its result as the class that was given
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()  # type: ignore[assignment]
    return folded.requires_grad_(False)


class InferenceNetwork(nn.Module):
    """A segmenter's copy for inference: norms folded, nothing checked, nothing padded, nothing enlarged.

    The head joins its layers with the backbone's where that is less work:
    :meth:`segmnv2.heads.head.Head.for_inference`.

    Attributes:
        mean: (1, 3, 1, 1) of the normalization, 0..255; (1, 1, 1, 1) if it is the same for all channels.
        std: the same of the normalization's divisor.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Segmenter) -> None:
        """Copy a network, which is not changed.

        Args:
            model: any segmenter; its output stride is the copy's.
        """
        super().__init__()
        model.check_classes()
        self.register_buffer("mean", _one_if_equal(model.pixel_mean))
        self.register_buffer("std", _one_if_equal(model.pixel_std))
        self.backbone = fold_norms(model.backbone)
        self.head = fold_norms(model.head).for_inference(self.backbone)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @property
    def compute_type(self) -> torch.dtype:
        """The type of number that the layers compute in; normalization is in float32 always."""
        return next(self.head.parameters()).dtype

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k i j"]:
        """Return logits at every ``logits_stride``-th pixel, in the network's type of number.

        Args:
            pixels: RGB (b, 3, h, w), 0..255, sides k * output_stride + 1.
        """
        x = ((pixels - self.mean) / self.std).to(self.compute_type)
        out: Tensor = self.head(self.head.select(self.backbone(x)))
        return out


def _one_if_equal(channels: Float[Tensor, "1 3 1 1"]) -> Float[Tensor, "1 c 1 1"]:
    """Return one number if all are the same: engines that compute channels last apply it several times as fast."""
    return (channels[:, :1] if bool((channels == channels[:, :1]).all()) else channels).clone()
