from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segmnv2.inference.canvas import make_canvas
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model


class GridModel(nn.Module):
    """Integer logits from single pixels, so that results can be compared exactly."""

    def __init__(self, output_stride: int = 16) -> None:
        super().__init__()
        self.output_stride = self.logits_stride = output_stride
        self.mean_pixel = (127.5, 127.5, 127.5)
        self.device = torch.device("cpu")
        self.sizes: list[tuple[int, int]] = []
        weight = [[1.0, -1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 2.0]]  # black is 0, white is 1
        self.weight = nn.Parameter(torch.tensor(weight))

    def raw_logits(self, pixels: Tensor) -> Tensor:
        self.sizes.append((pixels.shape[-2], pixels.shape[-1]))
        bottom, right = (-(side - 1) % self.output_stride for side in pixels.shape[-2:])
        seen = F.pad(pixels, (0, right, 0, bottom), value=127.5)[..., :: self.output_stride, :: self.output_stride]
        return torch.einsum("kc,bchw->bkhw", self.weight, (seen / 16).floor())


@pytest.fixture
def grid_model() -> Callable[..., GridModel]:
    return lambda **options: GridModel(**options).eval()


@pytest.fixture(scope="session")
def small_model() -> Segmenter:
    """Return a narrow model with statistics of one batch and a wide range of logits, so that labels vary.

    In double precision: convolutions round differently for each layout in memory, and the laws are not about that.
    """
    torch.manual_seed(0)
    model = create_model("deeplabv3_mobilenet_v2", num_classes=5, width=0.35).double()
    pixels = torch.stack([torch.from_numpy(smooth_picture(65, 65, seed)).permute(2, 0, 1) for seed in range(4)])
    with torch.no_grad():
        model.set_norm_momentum(1.0)
        model.train()(pixels)
        pixels = make_canvas(smooth_picture(50, 61), 65, 16).pixels
        logits: Any = model.eval().head.logits
        logits.weight.mul_(2 / model.raw_logits(pixels).std((0, 2, 3))[:, None, None, None])
        logits.bias.sub_(model.raw_logits(pixels).mean((0, 2, 3)))
    return model


@pytest.fixture
def photo() -> Callable[..., np.ndarray]:
    return smooth_picture


def smooth_picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return an enlarged coarse random pattern, (height, width, 3) RGB."""
    pattern = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) * 255
    smooth = F.interpolate(pattern, size=(height, width), mode="bilinear", align_corners=False)
    return smooth[0].permute(1, 2, 0).byte().numpy().copy()
