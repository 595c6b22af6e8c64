"""A network of 8 blocks rather than 17, since converters take time for each."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from segmnv2.backbones import mobilenet_v2
from segmnv2.models.segmenter import Segmenter
from tests.engines.conftest import lively_model


@cache
def shallow_model(name: str = "deeplabv3_mobilenet_v2", **options: object) -> Segmenter:
    # Whoever asks first, the network is one that can be exported.
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode(False), torch.enable_grad():
        few = [stage._replace(repeats=2 if index == 1 else 1) for index, stage in enumerate(mobilenet_v2.STAGES)]
        patch.setattr(mobilenet_v2, "STAGES", tuple(few))
        return lively_model(name, width=0.35, **options)


@cache
def shallow_seeing_model() -> Segmenter:
    """Return the network that is converted in most tests, so that it is converted once."""
    with torch.inference_mode(False):
        return let_see(copy.deepcopy(shallow_model()))


def picture(size: tuple[int, int], seed: int) -> torch.Tensor:
    """Return a smooth pattern, (1, 3, h, w), whole numbers 0..255."""
    coarse = torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(seed)) * 255
    return F.interpolate(coarse, size=size, mode="bicubic", align_corners=True).clamp(0, 255).round()


def let_see(model: Segmenter) -> Segmenter:
    """Give every class of a custom network its turn, as after training, so that all layers count.

    Its norms and logits are those of a batch. Its image-level feature would else outweigh the rest, and is damped.
    """
    pixels = torch.cat([picture((65, 97), seed) for seed in range(4)])
    head: Any = model.head
    with torch.no_grad():
        model.set_norm_momentum(1.0)
        model.train()(pixels)
        model.eval()
        head.projection.conv.weight[:, : head.aspp.image_pooling.conv.out_channels].mul_(0.3)
        head.logits.weight.mul_(2 / model.raw_logits(pixels).std((0, 2, 3))[:, None, None, None])
        head.logits.bias.sub_(model.raw_logits(pixels).mean((0, 2, 3)))
    return model
