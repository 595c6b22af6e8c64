"""Images drawn for one network, so that it sees many of its classes in them.

Where there are no real images, an export still has something to prove itself on. A trained network calls any pattern
that is drawn without it background, and an export that knew nothing else would pass. So a few steps of gradient ascent
bend a coarse pattern of colors towards a mosaic of classes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8

from segmnv2.models.segmenter import Segmenter
from segmnv2.nn.resize import resize_bilinear

STEPS = 12
RATE = 0.2
CELL = 4
"""Pixels between two colors of the pattern, which are free; it is smooth between, as real images are."""

MOSAIC = (3, 3)
"""Rows and columns of the classes that are aimed at."""


def draw_probe(model: Segmenter, size: tuple[int, int], seed: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image in which a network finds several classes.

    Args:
        model: the network, in evaluation mode, on the CPU; it is not changed.
        size: (height, width) in pixels.
        seed: which pattern, and which classes.

    Returns:
        uint8 RGB, 0..255.
    """
    chance = torch.Generator().manual_seed(seed)
    sides = [-(-side // CELL) + 1 for side in size]
    pattern = torch.rand(1, 3, *sides, generator=chance).mul_(2).sub_(1).requires_grad_()
    classes = torch.randint(model.num_classes, (1, 1, *MOSAIC), generator=chance)
    optimizer = torch.optim.Adam([pattern], lr=RATE)
    for _ in range(STEPS):
        logits = model.raw_logits(_paint(pattern, size))
        wanted = F.interpolate(classes.float(), logits.shape[-2:], mode="nearest")[:, 0].long()
        (pattern.grad,) = torch.autograd.grad(F.cross_entropy(logits, wanted), pattern)
        optimizer.step()
    with torch.no_grad():
        pixels = _paint(pattern, size).round().to(torch.uint8)
    return pixels[0].permute(1, 2, 0).contiguous().numpy()


def _paint(pattern: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return float RGB pixels (1, 3, h, w), 0..255, of a pattern of any range."""
    return 127.5 + 127.5 * torch.tanh(resize_bilinear(pattern, size))
