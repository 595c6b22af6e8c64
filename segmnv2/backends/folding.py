"""Batch norms folded into the convolutions before them: the same function with fewer steps."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

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
