"""Parameters and multiply-adds, plain and as the paper counts them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from segmnv2.models.pixels import PixelNetwork
from segmnv2.models.segmenter import Segmenter
from segmnv2.nn.stride import scaled_side


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable values: weights, biases, and batch norm's scales and shifts."""
    return sum(parameter.numel() for parameter in model.parameters())


@dataclass(frozen=True)
class Madds:
    """Multiply-adds in both conventions.

    Attributes:
        plain: each output sample counted once.
        paper: dilated convolutions counted as TensorFlow 1 executed them.
    """

    plain: int
    paper: int

    def __add__(self, other: Madds) -> Madds:
        """Return the sums."""
        return Madds(self.plain + other.plain, self.paper + other.paper)


def trace_madds(model: PixelNetwork, size: tuple[int, int] = (513, 513)) -> Madds:
    """Return the multiply-adds of convolutions and linear layers for one image; only shapes are computed.

    Args:
        model: the model, at the output stride to count; a :class:`Segmenter` is counted without the upsampling.
        size: (height, width) of the image in pixels.

    Source: for the paper's convention, the fit of Table 7's MAdds (MobileNetV2) to within 0.5 %: a map is padded to a
    multiple of the dilation, cut into ``dilation**2`` smaller maps and convolved densely, so the padding counts too.
    """
    # A copy on the meta device has shapes and no data, and the caller's model keeps its device and mode.
    copied = _without_elementwise(copy.deepcopy(model).to("meta").eval())
    extra = 0

    def count_extra(conv: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal extra
        assert isinstance(conv, nn.Conv2d)
        dilation = conv.dilation[0]
        height, width = output.shape[-2:]
        executed = dilation**2 * -(-height // dilation) * -(-width // dilation)
        per_sample = conv.weight.numel() * output.shape[0]
        extra += per_sample * (executed - height * width)

    for module in copied.modules():
        if isinstance(module, nn.Conv2d) and module.dilation[0] > 1:
            module.register_forward_hook(count_extra)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run = copied.raw_logits if isinstance(copied, Segmenter) else copied
        run(torch.empty(1, 3, *size, device="meta"))
    plain = int(counter.get_total_flops()) // 2
    return Madds(plain, plain + extra)


def _without_elementwise(model: PixelNetwork) -> PixelNetwork:
    """Remove norms and activations in place, because they are not counted but take most of the time."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm | nn.ReLU | nn.ReLU6):
                setattr(module, name, nn.Identity())
    return model


def trace_multi_scale_madds(
    model: Segmenter, scales: Iterable[float], *, flip: bool, size: tuple[int, int] = (513, 513)
) -> Madds:
    """Return :func:`trace_madds` of all passes of multi-scale inference: the sum over scales, twice that with flips.

    Each side of the image becomes ``int((side - 1) * scale + 1)``.
    """
    passes = [trace_madds(model, (scaled_side(size[0], s), scaled_side(size[1], s))) for s in scales]
    return sum((1 + flip) * passes, start=Madds(0, 0))
