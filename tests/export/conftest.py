from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from segmnv2.models.model_file import save_model
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model
from tests.export import shallow
from tests.export.shallow import balance_classes, smooth_image


@pytest.fixture(scope="session")
def balanced_model() -> Segmenter:
    torch.manual_seed(0)
    return balance_classes(create_model("deeplabv3_mobilenet_v2", num_classes=5, width=0.35))


@pytest.fixture(scope="session")
def shallow_balanced_model() -> Segmenter:
    return shallow.shallow_balanced_model()


@pytest.fixture(scope="session")
def weights(balanced_model: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("weights") / "small.safetensors", balanced_model, {"source": "a test"})


@pytest.fixture(scope="session")
def images() -> list[np.ndarray]:
    """Images of odd and even sizes."""
    sizes = [(75, 100), (97, 65), (66, 50)]
    return [smooth_image(size, seed)[0].permute(1, 2, 0).byte().numpy() for seed, size in enumerate(sizes, start=9)]
