"""The paper's own weights, imported once for all tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from segmnv2.conversion.convert import import_checkpoint
from segmnv2.datasets.voc import VocSegmentation
from segmnv2.models.model_file import load_model
from segmnv2.models.segmenter import Segmenter

IMAGES = 4


@pytest.fixture(scope="session")
def voc_weights(shared: Path, common: Path) -> Path:
    """Return the paper's VOC network (MNet V2*, no ASPP) as a model file, which tests only read."""
    source = shared / "weights/deeplabv3_mnv2_pascal_train_aug/model.ckpt-30000"
    return import_once(source, common / "voc.safetensors")


@pytest.fixture(scope="session")
def imagenet_weights(shared: Path, common: Path) -> Path:
    """Return TensorFlow-Slim's ImageNet MobileNetV2 1.0 as a backbone file, which tests only read."""
    source = shared / "weights/mobilenet_v2_1.0_224/mobilenet_v2_1.0_224.ckpt"
    return import_once(source, common / "imagenet.safetensors")


def import_once(source: Path, out: Path) -> Path:
    """Import a checkpoint unless another worker has already imported it."""
    with FileLock(f"{out}.lock"):
        return out if out.exists() else import_checkpoint(source, out).path


@pytest.fixture(scope="module")
def model(voc_weights: Path) -> Segmenter:
    """Return the paper's VOC network in evaluation mode."""
    return load_model(voc_weights).eval()


@pytest.fixture(scope="module")
def images(shared: Path) -> list[np.ndarray]:
    """Return a few of VOC's val images."""
    dataset = VocSegmentation(shared / "data/VOCdevkit", "val")
    return [dataset[index].image for index in range(IMAGES)]
