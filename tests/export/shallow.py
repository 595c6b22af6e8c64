"""A model of 8 blocks in place of 17, because conversion takes time for each block."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from segmnv2.backbones import mobilenet_v2
from segmnv2.models.segmenter import Segmenter
from tests.engines.conftest import model_with_statistics


@cache
def shallow_model(name: str = "deeplabv3_mobilenet_v2", **options: object) -> Segmenter:
    # The cached model can be exported, even if the first caller is in inference mode.
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode(False), torch.enable_grad():
        few = [stage._replace(repeats=2 if index == 1 else 1) for index, stage in enumerate(mobilenet_v2.STAGES)]
        patch.setattr(mobilenet_v2, "STAGES", tuple(few))
        return model_with_statistics(name, width=0.35, **options)


@cache
def shallow_balanced_model() -> Segmenter:
    """Return the model of most tests of conversion, so that it is converted only once."""
    with torch.inference_mode(False):
        return balance_classes(copy.deepcopy(shallow_model()))


def smooth_image(size: tuple[int, int], seed: int) -> torch.Tensor:
    """Return a smooth pattern, (1, 3, h, w), whole numbers 0..255."""
    coarse = torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(seed)) * 255
    return F.interpolate(coarse, size=size, mode="bicubic", align_corners=True).clamp(0, 255).round()


def balance_classes(model: Segmenter) -> Segmenter:
    """Change an untrained model so that it finds every class in some pixels, and all layers count.

    Norms and logits are scaled to a batch. The image-level feature is damped, because it would outweigh the rest.
    """
    pixels = torch.cat([smooth_image((65, 97), seed) for seed in range(4)])
    head: Any = model.head
    with torch.no_grad():
        model.set_norm_momentum(1.0)
        model.train()(pixels)
        model.eval()
        head.projection.conv.weight[:, : head.aspp.image_pooling.conv.out_channels].mul_(0.3)
        head.logits.weight.mul_(2 / model.raw_logits(pixels).std((0, 2, 3))[:, None, None, None])
        head.logits.bias.sub_(model.raw_logits(pixels).mean((0, 2, 3)))
    return model
