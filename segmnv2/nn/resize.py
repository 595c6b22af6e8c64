"""Bilinear resizing, and the library's one rule for it: corners are aligned.

TensorFlow's DeepLab resizes with ``align_corners=True`` everywhere: pixel 0 maps to pixel 0 and the last pixel to the
last. With sides of ``k * stride + 1`` the samples of a feature map then lie exactly on every ``stride``-th pixel of the
image.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from segmnv2.nn.conv import Side


def resize_bilinear(x: Float[Tensor, "b c h w"], size: tuple[Side, Side]) -> Float[Tensor, "b c i j"]:
    """Resize ``(b, c, h, w)`` to ``(b, c, *size)``, bilinear with aligned corners.

    Args:
        x: maps of any range.
        size: (height, width) of the result, in pixels.

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
        raw: (b, k, i, j), sample (m, n) lying on pixel (m, n) * output_stride.
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
