"""The part of a segmentation network that engines run: RGB pixels in, logits at output stride out."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.backends.composition import join_projection
from segmnv2.backends.folding import fold_norms
from segmnv2.heads.aspp import Aspp
from segmnv2.models.segmenter import Segmenter
from segmnv2.nn.conv import ConvNormAct

IMAGE_LEVEL = ("aspp.image_pooling", "pooled")
"""Names of the layers of :class:`GridNetwork` that see one pixel, the mean of all."""


class GridNetwork(nn.Module):
    """A segmenter's copy for inference: norms folded, nothing checked, nothing padded, nothing enlarged.

    The backbone's last layer, which is linear, is part of the head's first where that is less work
    (:mod:`segmnv2.backends.composition`). The head's image-level feature is the same at every pixel, so its share of
    the projection is computed once and added, where the head itself spreads it over the map first.

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
        head = fold_norms(model.head)
        join_projection(self.backbone, head.aspp)
        self.aspp = head.aspp
        self.pooled, self.local = _split_projection(head.projection, head.aspp)
        self.logits = head.logits
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @property
    def compute_type(self) -> torch.dtype:
        """The type of number that the layers compute in; normalization is in float32 always."""
        return self.logits.weight.dtype

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k i j"]:
        """Return logits at every output-stride-th pixel, in the network's type of number.

        Args:
            pixels: RGB (b, 3, h, w), 0..255, sides k * output_stride + 1.
        """
        x = self.backbone(((pixels - self.mean) / self.std).to(self.compute_type))[-1]
        pooled = self.pooled(self.aspp.image_pooling(x.mean((2, 3), keepdim=True)))
        branches = [self.aspp.pointwise(x), *(branch(x) for branch in self.aspp.atrous)]
        local = self.local(branches[0] if len(branches) == 1 else torch.cat(branches, dim=1))
        out: Tensor = self.logits(torch.relu(local + pooled))
        return out


def _one_if_equal(channels: Float[Tensor, "1 3 1 1"]) -> Float[Tensor, "1 c 1 1"]:
    """Return one number if all are the same: engines that compute channels last apply it several times as fast."""
    return (channels[:, :1] if bool((channels == channels[:, :1]).all()) else channels).clone()


def _split_projection(projection: ConvNormAct, aspp: Aspp) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Return the projection's columns for the image-level feature, which come first, and those for the rest."""
    conv = projection.conv
    assert conv.bias is not None
    assert isinstance(projection.activation, nn.ReLU)
    first = aspp.image_pooling.conv.out_channels
    pooled = nn.Conv2d(first, conv.out_channels, 1, dtype=conv.weight.dtype)
    local = nn.Conv2d(conv.in_channels - first, conv.out_channels, 1, bias=False)
    pooled.weight = nn.Parameter(conv.weight[:, :first].clone())
    pooled.bias = nn.Parameter(conv.bias.clone())
    local.weight = nn.Parameter(conv.weight[:, first:].clone())
    return pooled, local
