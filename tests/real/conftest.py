"""The paper's own weights, imported once for all tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segmnv2.data.voc import VocSegmentation
from segmnv2.models.convert import import_checkpoint
from segmnv2.models.file import load_model
from segmnv2.models.segmenter import Segmenter

IMAGES = 4


@pytest.fixture(scope="session")
def voc_weights(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paper's VOC network (MNet V2*, no ASPP) as a model file."""
    source = shared / "weights/deeplabv3_mnv2_pascal_train_aug/model.ckpt-30000"
    return import_checkpoint(source, tmp_path_factory.mktemp("weights") / "voc.safetensors").path


@pytest.fixture(scope="session")
def imagenet_weights(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TensorFlow-Slim's ImageNet MobileNetV2 1.0 as a backbone file."""
    source = shared / "weights/mobilenet_v2_1.0_224/mobilenet_v2_1.0_224.ckpt"
    return import_checkpoint(source, tmp_path_factory.mktemp("weights") / "imagenet.safetensors").path


@pytest.fixture(scope="module")
def model(voc_weights: Path) -> Segmenter:
    """The paper's VOC network, ready to infer."""
    return load_model(voc_weights).eval()


@pytest.fixture(scope="module")
def images(shared: Path) -> list[np.ndarray]:
    """A few of VOC's val images."""
    dataset = VocSegmentation(shared / "data/VOCdevkit", "val")
    return [dataset[index].image for index in range(IMAGES)]
