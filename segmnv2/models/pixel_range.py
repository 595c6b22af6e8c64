"""A warning where float pixels are in another range than a network takes, the commonest mistake with PyTorch models."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from segmnv2.errors import SegmnWarning

CHECKS = 8
"""Calls of a network that are looked at; then it costs nothing, and a GPU is not waited for."""

LEFT = "_range_checks"


def check_range(network: nn.Module, pixels: Tensor, highest: int) -> None:
    """Warn once if the first float pixels that a network is called with in evaluation mode are in another range.

    Nothing is done in training, nor while the network is compiled, exported, traced or captured.

    Args:
        network: that was called.
        pixels: RGB, of any shape.
        highest: value that it takes, 255 or 1.
    """
    if _is_recorded(pixels):  # first, so that compiled code does not depend on the number of calls
        return
    left = getattr(network, LEFT, CHECKS)
    if not left or network.training or not pixels.is_floating_point():
        return
    try:
        low, high = (float(value) for value in pixels.detach().aminmax())
        fractions = bool((pixels != pixels.round()).any())
    except RuntimeError:  # tensors without values: fake ones, those of vmap
        return
    # Black images have whole numbers; 3 lies above what ImageNet's mean and deviation make of white.
    wrong = high <= 3 and fractions if highest > 1 else high > 3 or low < -0.5
    if wrong:
        warnings.warn(
            f"pixels: their values lie in {low:.3g}..{high:.3g}; this network takes RGB in 0..{highest} and normalizes "
            f"it itself: scale them to 0..{highest}, and leave out any normalization",
            SegmnWarning,
            stacklevel=3,
        )
    setattr(network, LEFT, 0 if wrong else left - 1)


def _is_recorded(pixels: Tensor) -> bool:
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return True
    return pixels.is_meta or (pixels.is_cuda and torch.cuda.is_current_stream_capturing())
