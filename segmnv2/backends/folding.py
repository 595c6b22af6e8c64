"""Batch norms folded into the convolutions before them: the same function with fewer steps."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segmnv2.nn.conv import ConvNormAct, SameConv2d

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


def plain_convolutions(network: T) -> T:
    """Return a copy that has torch's own convolutions in place of :class:`segmnv2.nn.conv.SameConv2d`.

    Quantizers look for those alone. The two compute the same on odd sides, which all maps of an image of
    k * output_stride + 1 have.

    Args:
        network: any module; it is not changed.
    """
    plain = copy.deepcopy(network)
    for module in list(plain.modules()):
        for name, child in module.named_children():
            if isinstance(child, SameConv2d):
                setattr(module, name, _plain(child))
    return plain


def _plain(conv: SameConv2d) -> nn.Conv2d:
    """Return torch's convolution with the same weights, which are shared."""
    found = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size[0],
        conv.stride[0],
        conv.padding[0],
        conv.dilation[0],
        conv.groups,
        bias=conv.bias is not None,
        device="meta",
    )
    found.weight, found.bias = conv.weight, conv.bias
    return found
