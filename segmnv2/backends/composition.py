"""Two convolutions with nothing between them made one where that is less work.

The last block of MobileNetV2 ends linearly, the head without ASPP begins with a 1x1 convolution, and so does its
image-level branch, which reads the mean. So the last projection (960 to 320 channels) and each of those (320 to 256)
are one matrix (960 to 256). At width 1.0 this leaves out 6 % of the network's work, and changes nothing but rounding.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.heads.aspp import Aspp
from segmnv2.nn.blocks import InvertedResidual
from segmnv2.nn.conv import ConvNormAct, SameConv2d


def join_projection(backbone: nn.Module, aspp: Aspp) -> None:
    """Make a backbone's last linear layer part of those that read it, in place, if that saves multiplications.

    Args:
        backbone: with norms folded; any, but only those that end in an inverted residual have such a layer.
        aspp: with norms folded; dilated 3x3 branches, of which each would read three times the channels, forbid it.
    """
    block = _last_block(backbone)
    if block is None or len(aspp.atrous):
        return
    first, second = block.project.conv, aspp.pointwise.conv
    joined = first.in_channels * second.out_channels
    if joined >= (first.in_channels + second.out_channels) * first.out_channels:
        return
    for reader in (aspp.pointwise, aspp.image_pooling):
        reader.conv = compose(first, reader.conv)
    block.project = nn.Identity()  # type: ignore[assignment]


def compose(first: SameConv2d, second: SameConv2d) -> SameConv2d:
    """Return the 1x1 convolution that computes what two of them do one after the other.

    Args:
        first: from channels a to b; its type of number is the result's.
        second: from b to c.

    Returns:
        from a to c, with a bias, not to be learned.
    """
    joined = SameConv2d(first.in_channels, second.out_channels, bias=True)
    before, after = (conv.weight.detach().double()[:, :, 0, 0] for conv in (first, second))
    bias = _bias(second) + after @ _bias(first)
    joined.weight = nn.Parameter((after @ before).to(first.weight.dtype)[:, :, None, None], requires_grad=False)
    joined.bias = nn.Parameter(bias.to(first.weight.dtype), requires_grad=False)
    return joined


def _last_block(backbone: nn.Module) -> InvertedResidual | None:
    """Return the block that a backbone's coarsest features come from, if it ends linearly and adds nothing after."""
    blocks = getattr(backbone, "blocks", None)
    if getattr(backbone, "last", None) is not None or not isinstance(blocks, nn.ModuleList):
        return None
    block = blocks[-1]
    if not isinstance(block, InvertedResidual) or block.shortcut or not isinstance(block.project, ConvNormAct):
        return None
    return block if isinstance(block.project.activation, nn.Identity) else None


def _bias(conv: SameConv2d) -> Float[Tensor, " c"]:
    return (conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias).detach().double()
