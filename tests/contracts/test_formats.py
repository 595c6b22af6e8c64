"""Laws of all registered export formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from segmnv2.cli import main
from segmnv2.export.comparison import open_export
from segmnv2.export.formats import FORMATS, export_files, recognize_format
from segmnv2.inference.scores import predict_labels
from segmnv2.models.model_file import load_model, save_model
from segmnv2.models.zoo import create_model
from tests.export.shallow import balance_classes, smooth_image
from tests.marks import slow_where

OURS = ("onnx", "openvino", "torch", "executorch", "litert", "coreml")
"""Formats whose conversion takes many seconds; tests/export has faster tests of their parts."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_model(path, balance_classes(create_model("deeplabv3_mobilenet_v2", num_classes=3, width=0.1)).eval())
    return path


@pytest.mark.parametrize("name", slow_where(lambda name: name in OURS, sorted(FORMATS)))
def test_a_file_is_written_and_verified_and_gives_the_models_labels(name: str, weights: Path, tmp_path: Path) -> None:
    form = FORMATS[name]
    if form.missing():
        pytest.skip(f"{', '.join(form.missing())} is not installed")
    path = tmp_path / f"small{form.suffix}"
    assert main(["export", str(weights), "--format", name, "--out", str(path), "--size", "65,97"]) == 0
    assert recognize_format(path) == name
    assert path in export_files(path) or path.is_dir()
    if not form.runs_here:
        return
    image = smooth_image((65, 97), 0)[0].permute(1, 2, 0).byte().numpy()
    labels = open_export(path)(image)
    assert (labels == predict_labels(load_model(weights), image, size="native")).mean() >= 0.999
    assert len(np.unique(labels)) > 1
    images = tmp_path / "images"
    images.mkdir()
    PIL.Image.fromarray(image).save(images / "a.png")
    assert main(["verify", str(path), "--against", str(weights), "--images", str(images)]) == 0


def test_suffixes_are_unique() -> None:
    assert len({form.suffix for form in FORMATS.values()}) == len(FORMATS)
