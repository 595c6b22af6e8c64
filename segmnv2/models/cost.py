"""Parameters and multiply-adds, plain and as the paper counts them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segmnv2.models.pixels import PixelNetwork
from segmnv2.models.segmenter import Segmenter
from segmnv2.nn.resize import scaled_side

Convention = Literal["plain", "paper"]


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable values: weights, biases, and batch norm's scales and shifts."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_madds(model: PixelNetwork, size: tuple[int, int] = (513, 513), convention: Convention = "plain") -> int:
    """Return the multiply-adds of convolutions and linear layers for one image; only shapes are traced.

    Args:
        model: the network, at the output stride to count; of a :class:`Segmenter` up to the logits before upsampling.
        size: (height, width) of the image in pixels.
        convention: ``"plain"`` counts each output sample once. ``"paper"`` counts a dilated convolution as TensorFlow 1
            executed it: the map is padded to a multiple of the dilation, cut into ``dilation**2`` smaller
            maps and convolved densely, so the padding counts too.

    Source: for the paper's convention, the fit of Table 7's MAdds (MobileNetV2) to within 0.5 %.
    """
    # A meta copy has shapes and no data, and the caller's network keeps its device and mode.
    shadow = copy.deepcopy(model).to("meta").eval()
    extra = 0

    def count_extra(conv: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal extra
        assert isinstance(conv, nn.Conv2d)
        dilation = conv.dilation[0]
        height, width = output.shape[-2:]
        executed = dilation**2 * -(-height // dilation) * -(-width // dilation)
        per_sample = conv.weight.numel() * output.shape[0]
        extra += per_sample * (executed - height * width)

    if convention == "paper":
        for module in shadow.modules():
            if isinstance(module, nn.Conv2d) and module.dilation[0] > 1:
                module.register_forward_hook(count_extra)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run = shadow.raw_logits if isinstance(shadow, Segmenter) else shadow
        run(torch.empty(1, 3, *size, device="meta"))
    return int(counter.get_total_flops()) // 2 + extra


def count_multi_scale_madds(
    model: Segmenter,
    scales: Iterable[float],
    *,
    flip: bool,
    size: tuple[int, int] = (513, 513),
    convention: Convention = "plain",
) -> int:
    """Return the multiply-adds of all passes of multi-scale inference: the sum over scales, twice that with flips.

    Args:
        model: the network, at the output stride to count.
        scales: of the image's sides, each becoming ``int((side - 1) * scale + 1)``.
        flip: whether each scale is also run mirrored.
        size: (height, width) of the image in pixels.
        convention: as in :func:`count_madds`.
    """
    passes = [(scaled_side(size[0], s), scaled_side(size[1], s)) for s in scales]
    return (1 + flip) * sum(count_madds(model, size=scaled, convention=convention) for scaled in passes)
