"""Output strides, their conversion to strides and dilations, and resizing between their grids.

The library always resizes bilinearly with aligned corners, as TensorFlow's DeepLab does (``align_corners=True``). Pixel
0 maps to pixel 0 and the last pixel to the last. With sides of ``k * stride + 1``, the samples of a feature map are
exactly at every ``stride``-th pixel of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from segmnv2.errors import ConfigError, describe_value
from segmnv2.nn.conv import Side

OUTPUT_STRIDES = (8, 16, 32)


@runtime_checkable
class Strided(Protocol):
    """A layer whose stride and dilation can be changed."""

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change both, keeping the weights."""


def plan_strides_and_dilations(strides: Sequence[int], output_stride: int) -> list[tuple[int, int]]:
    """Convert nominal strides to (stride, dilation) pairs so that the whole chain has ``output_stride``.

    Once the output stride is reached, all later layers have stride 1. A layer whose nominal stride is thus replaced
    keeps the dilation of the layer before it. Its stride multiplies the dilation of the layers after it.

    Source: ``mobilenet_base`` of slim/nets/mobilenet/mobilenet.py.
    """
    rates, current, dilation = [], 1, 1
    for stride in strides:
        if current == output_stride:
            rates.append((1, dilation))
            dilation *= stride
        else:
            rates.append((stride, 1))
            current *= stride
    return rates


def check_output_stride(output_stride: int) -> None:
    """Refuse an output stride that no model of this library has.

    Raises:
        ConfigError: it is not 8, 16 or 32.
    """
    if type(output_stride) is not int or output_stride not in OUTPUT_STRIDES:
        allowed = ", ".join(map(str, OUTPUT_STRIDES))
        value = describe_value(output_stride)
        raise ConfigError(f"output_stride {value} is not possible; allowed are {allowed} (16 is the usual one)")


def resize_bilinear(x: Float[Tensor, "b c h w"], size: tuple[Side, Side]) -> Float[Tensor, "b c i j"]:
    """Resize ``(b, c, h, w)`` to ``(b, c, *size)``, bilinear with aligned corners.

    Source: ``tf.image.resize_bilinear(..., align_corners=True)`` as used throughout tensorflow/models research/deeplab.
    """
    if x.shape[-2:] == size:
        return x
    if x.shape[-2:] == (1, 1):
        return x.expand(-1, -1, *size)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def upsample_logits(
    raw: Float[Tensor, "b k i j"], output_stride: int, size: tuple[int, int]
) -> Float[Tensor, "b k h w"]:
    """Return logits for each pixel of an image from those at every ``output_stride``-th.

    Args:
        raw: (b, k, i, j); sample (m, n) is at pixel (m, n) * output_stride.
        output_stride: pixels between two samples; 1 returns ``raw`` itself, cropped.
        size: height and width of the image in pixels, at most (i - 1) * output_stride + 1.
    """
    full = ((raw.shape[-2] - 1) * output_stride + 1, (raw.shape[-1] - 1) * output_stride + 1)
    return resize_bilinear(raw, full)[..., : size[0], : size[1]]


def scaled_side(side: int, scale: float) -> int:
    """Return the side of an image resized by ``scale`` so that a side of k * stride + 1 keeps that form.

    Source: ``scale_dimension`` of tensorflow/models research/deeplab/core/utils.py: ``int((side - 1) * scale + 1)``.
    """
    return int((side - 1) * scale + 1)
