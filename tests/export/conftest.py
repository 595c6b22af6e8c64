from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segmnv2.models.file import save_model
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model
from tests.export.shallow import shallow_model


def picture(size: tuple[int, int], seed: int) -> torch.Tensor:
    """Return a smooth pattern, (1, 3, h, w), whole numbers 0..255."""
    coarse = torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(seed)) * 255
    return F.interpolate(coarse, size=size, mode="bicubic", align_corners=True).clamp(0, 255).round()


def let_see(model: Segmenter) -> Segmenter:
    """Give every class of a custom network its turn, as after training, so that all layers count.

    Its norms and logits are those of a batch. Its image-level feature would else outweigh the rest, and is damped.
    """
    pixels = torch.cat([picture((65, 97), seed) for seed in range(4)])
    head = model.head
    with torch.no_grad():
        model.set_norm_momentum(1.0)
        model.train()(pixels)
        model.eval()
        head.projection.conv.weight[:, : head.aspp.image_pooling.conv.out_channels].mul_(0.3)
        head.logits.weight.mul_(2 / model.raw_logits(pixels).std((0, 2, 3))[:, None, None, None])
        head.logits.bias.sub_(model.raw_logits(pixels).mean((0, 2, 3)))
    return model


@pytest.fixture(scope="session")
def seeing_model() -> Segmenter:
    torch.manual_seed(0)
    return let_see(create_model("deeplabv3_mobilenet_v2", num_classes=5, width=0.35))


@pytest.fixture(scope="session")
def shallow_seeing_model() -> Segmenter:
    return let_see(copy.deepcopy(shallow_model()))


@pytest.fixture(scope="session")
def weights(seeing_model: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("weights") / "small.safetensors", seeing_model, {"source": "a test"})


@pytest.fixture(scope="session")
def images() -> list[np.ndarray]:
    """Images of odd and even sizes."""
    sizes = [(75, 100), (97, 65), (66, 50)]
    return [picture(size, seed)[0].permute(1, 2, 0).byte().numpy() for seed, size in enumerate(sizes, start=9)]
