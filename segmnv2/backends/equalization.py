"""Channels made alike in range across layers, so that one 8-bit scale serves them all: the same float function.

What one layer multiplies a channel by, the next divides it by again. Between them the channel uses more of the
levels that it shares with the others. ReLU lets any positive factor through. ReLU6 lets through one above 1 where
the channel, on the calibration images, then still stays within 6: it is linear for what was seen, and cuts what never
was.

Source: the idea is that of Data-Free Quantization (Nagel et al. 2019), sections 4.1 and 5.1.1; ranges of activations,
which need images, are weighed against those of weights as in SmoothQuant (Xiao et al. 2023), equation 4.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.backends.channel_space import Space, find_spaces
from segmnv2.backends.network import GridNetwork

LARGEST = 32.0
"""Factors lie between 1 / this and this: a channel that is nearly silent needs no more."""


def equalize_channels(network: GridNetwork, calibration: Sequence[Float[Tensor, "1 3 _ _"]]) -> GridNetwork:
    """Return a copy with equalised channels, which on the calibration images is the same function up to rounding.

    Args:
        network: with norms folded; it is not changed.
        calibration: RGB pixels, 0..255, sides k * output_stride + 1.
    """
    equal = copy.deepcopy(network)
    layers = {name: module for name, module in equal.named_modules() if isinstance(module, nn.Conv2d)}
    spaces = find_spaces(equal, calibration[0])
    peaks = input_peaks(equal, {name: layers[name] for space in spaces for name in space.consumers}, calibration)
    for space in spaces:
        factor = _factor(space, layers, peaks)
        for name in space.producers:
            layers[name].weight.mul_(factor[:, None, None, None])
            if (bias := layers[name].bias) is not None:
                bias.mul_(factor)
        for name in space.consumers:
            _columns(layers[name]).div_(factor[:, None, None, None])
    return equal


@torch.inference_mode()
def input_peaks(
    network: nn.Module, layers: dict[str, nn.Conv2d], calibration: Sequence[Float[Tensor, "1 3 _ _"]]
) -> dict[str, Float[Tensor, " c"]]:
    """Return the largest magnitude of each channel that enters each of the layers."""
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


def _factor(space: Space, layers: dict[str, nn.Conv2d], peaks: dict[str, Tensor]) -> Float[Tensor, " c"]:
    """Return what to multiply each channel by.

    Depthwise layers have a scale for each channel's weights, so every channel may reach the same peak. In others
    a row of weights shares one scale: there the peak becomes the geometric mean of those of activation and weights.
    """
    consumers = sorted(space.consumers)
    peak = torch.stack([peaks[name] for name in consumers]).amax(0)
    top = peak.amax() if space.ceiling == float("inf") else torch.tensor(space.ceiling)
    wanted = torch.ones_like(peak)
    if any(layers[name].groups == 1 for name in consumers):
        weights = torch.stack([_columns(layers[name]).abs().amax((1, 2, 3)) for name in consumers]).amax(0)
        wanted = (peak * weights).sqrt()
    factor = wanted / wanted.amax() * top / peak
    least = 1 / LARGEST if space.ceiling == float("inf") else 1.0
    return factor.nan_to_num(1.0, LARGEST).clamp(least, LARGEST)  # silent channels too


def _columns(layer: nn.Conv2d) -> Float[Tensor, "c _ _ _"]:
    """Return a view of a layer's weights with the input's channels first."""
    return layer.weight.data if layer.groups > 1 else layer.weight.data.transpose(0, 1)
