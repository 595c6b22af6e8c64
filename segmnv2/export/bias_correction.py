"""Correction of biases by the mean error that rounded weights add to each channel.

Source: Data-Free Quantization (Nagel et al. 2019), section 4.2, with images in place of the norms' statistics.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LEVELS = 127
"""Largest 8-bit weight; the smallest is its negative."""

T = TypeVar("T", bound=nn.Module)


@torch.no_grad()
def correct_biases(network: T, images: Sequence[Float[Tensor, "1 3 _ _"]]) -> T:
    """Return a copy whose layers, once their weights are rounded, give the means that they gave before.

    Layers without a bias stay unchanged.

    Args:
        network: with norms folded; it is not changed.
        images: what the network takes.
    """
    corrected = copy.deepcopy(network)
    layers = [each for each in corrected.modules() if isinstance(each, nn.Conv2d) and each.bias is not None]
    changes = {layer: round_weights(layer.weight) - layer.weight for layer in layers}
    shifts = {layer: torch.zeros_like(changes[layer][:, 0, 0, 0]) for layer in layers}

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Conv2d)
        added = F.conv2d(inputs[0], changes[layer], None, layer.stride, layer.padding, layer.dilation, layer.groups)
        shifts[layer] += added.mean((0, 2, 3)) / len(images)

    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    for pixels in images:
        corrected(pixels)
    for hook in hooks:
        hook.remove()
    for layer in layers:
        assert layer.bias is not None
        layer.bias.sub_(shifts[layer])
    return corrected


def round_weights(weight: Float[Tensor, "o i h w"]) -> Float[Tensor, "o i h w"]:
    """Return weights as 8 bits hold them, symmetric with one scale for each output channel."""
    scale = weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny) / LEVELS
    return (weight / scale).round() * scale
