"""Channels made alike in range where a depthwise layer reads them, so that one 8-bit scale serves them all.

What the layer before multiplies a channel by, the depthwise layer divides it by again. Between them the channel uses
all levels that it shares with the others; a depthwise layer's weights have a scale for each channel, so nothing is
lost there. ReLU lets any positive factor through. ReLU6 lets through one above 1 where the channel, on the calibration
images, then still stays within 6: it is linear for what was seen, and cuts what never was.

Between other layers a row of weights shares one scale, and what activations gain there weights lose (docs/int8.md).

Source: the idea is that of Data-Free Quantization (Nagel et al. 2019), sections 4.1 and 5.1.1.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.backends.channel_space import UNBOUNDED, find_spaces
from segmnv2.backends.network import GridNetwork

LARGEST = 32.0
"""Of the factors: a channel that is nearly silent needs no more."""


def equalize_channels(network: GridNetwork, calibration: Sequence[Float[Tensor, "1 3 _ _"]]) -> GridNetwork:
    """Return a copy with equalized channels, which on the calibration images is the same function up to rounding.

    Args:
        network: with norms folded; it is not changed.
        calibration: RGB pixels, 0..255, sides k * output_stride + 1.
    """
    equal = copy.deepcopy(network)
    layers = {name: module for name, module in equal.named_modules() if isinstance(module, nn.Conv2d)}
    spaces = [
        space
        for space in find_spaces(equal, calibration[0])
        if all(layers[name].groups > 1 for name in space.consumers)
    ]
    peaks = input_peaks(equal, {name: layers[name] for space in spaces for name in space.consumers}, calibration)
    for space in spaces:
        peak = torch.stack([peaks[name] for name in sorted(space.consumers)]).amax(0)
        top = peak.amax() if space.ceiling == UNBOUNDED else torch.as_tensor(space.ceiling)
        factor = (top / peak).nan_to_num(1.0, LARGEST).clamp(1.0, LARGEST)
        before = layers[space.producer]
        before.weight.mul_(factor[:, None, None, None])
        if before.bias is not None:
            before.bias.mul_(factor)
        for name in space.consumers:
            layers[name].weight.div_(factor[:, None, None, None])
    return equal


@torch.inference_mode()
def input_peaks(
    network: nn.Module, layers: Mapping[str, nn.Module], calibration: Sequence[Float[Tensor, "1 3 _ _"]]
) -> dict[str, Float[Tensor, " c"]]:
    """Return the largest magnitude of each channel that enters each of some layers of a network."""
    peaks: dict[str, Tensor] = {}

    def look(name: str, inputs: tuple[Tensor, ...]) -> None:
        found = inputs[0].abs().amax((0, 2, 3))
        peaks[name] = torch.maximum(peaks[name], found) if name in peaks else found

    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: look(name, inputs))
        for name, layer in layers.items()
    ]
    for pixels in calibration:
        network(pixels)
    for hook in hooks:
        hook.remove()
    return peaks
