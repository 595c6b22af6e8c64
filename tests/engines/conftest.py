from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model


def smooth_pixels(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Return coarse random patterns, 0..255, which a model distinguishes, unlike noise."""
    coarse = torch.rand(*shape[:2], 5, 5, generator=torch.Generator().manual_seed(seed)) * 255
    return F.interpolate(coarse, size=shape[2:], mode="bilinear", align_corners=True)


def model_with_statistics(name: str = "deeplabv3_mobilenet_v2", **options: Any) -> Segmenter:
    """Return a model whose norms and logits are scaled to a batch, as after training, so that all layers count."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=5, **options)
    pixels = smooth_pixels((4, 3, 65, 65))
    with torch.no_grad():
        model.set_norm_momentum(1.0)
        model.train()(pixels)
        logits: Any = model.eval().head.logits
        logits.weight.mul_(2 / model.raw_logits(pixels).std((0, 2, 3))[:, None, None, None])
    return model


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Segmenter]:
    return model_with_statistics


@pytest.fixture(scope="session")
def make_pixels() -> Callable[..., torch.Tensor]:
    return smooth_pixels


@pytest.fixture(scope="session")
def model() -> Segmenter:
    return model_with_statistics(width=0.35)
