"""Formats for phones with the paper's network, on real images that are padded to 513x513."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from segmnv2.datasets.voc import VocSegmentation
from segmnv2.export.comparison import open_export
from segmnv2.export.create import export_weights
from segmnv2.inference.scores import predict_labels
from segmnv2.models.segmenter import Segmenter

SIZE = (513, 513)
PACKAGES = {"executorch": "executorch", "litert": "ai_edge_litert"}
SUFFIXES = {"executorch": ".pte", "litert": ".tflite"}

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def calibration(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with links to images that are not used for the comparison of labels."""
    dataset = VocSegmentation(shared / "data/VOCdevkit", "val")
    folder = tmp_path_factory.mktemp("calibration")
    for index in range(40, 440, 25):
        name = f"{dataset[index].name}.jpg"
        (folder / name).symlink_to((shared / "data/VOCdevkit/VOC2012/JPEGImages" / name).resolve())
    return folder


def agreement(path: Path, model: Segmenter, images: list[np.ndarray]) -> float:
    """Return the share of the images' pixels that have the network's own label."""
    export, same = open_export(path), []
    for image in images:
        height, width = image.shape[:2]
        canvas = np.full((*SIZE, 3), 128, dtype=np.uint8)
        canvas[:height, :width] = image
        same.append((export(canvas) == predict_labels(model, canvas))[:height, :width].ravel())
    return float(np.concatenate(same).mean())


@torch.inference_mode()
@pytest.mark.parametrize(
    ("form", "precision", "least"),
    [
        ("litert", "float32", 0.9999),
        ("litert", "float16", 0.999),
        pytest.param("litert", "int8", 0.98, marks=pytest.mark.slow),
        pytest.param("executorch", "float32", 0.9999, marks=pytest.mark.slow),
        pytest.param("executorch", "int8", 0.98, marks=pytest.mark.slow),
    ],
)
def test_labels_are_the_models(
    form: str, precision: str, least: float, model, images, voc_weights, calibration, tmp_path
) -> None:
    pytest.importorskip(PACKAGES[form])
    folder = None
    if precision == "int8":
        pytest.importorskip("executorch")
        folder = calibration
    path = tmp_path / f"voc{SUFFIXES[form]}"
    export_weights(voc_weights, path, form, precision=precision, calibration=folder, verify=False)
    found = agreement(path, model, images)
    print(f"{form} {precision}: {100 * found:.3f} % of pixels")
    assert found >= least


def test_core_mls_program_gives_the_models_labels(model: Segmenter, images: list[np.ndarray]) -> None:
    pytest.importorskip("coremltools")
    from segmnv2.export.export_metadata import describe_export
    from segmnv2.export.mobile.coreml_file import convert
    from tests.export.mil_evaluation import evaluate

    height, width = images[0].shape[:2]
    program = convert(model, describe_export(model, "coreml", size=(height, width)), "milinternal")
    with torch.inference_mode():
        found = evaluate(program, torch.from_numpy(images[0]).permute(2, 0, 1)[None].float())[0].numpy()
    assert (found == predict_labels(model, images[0], size="native")).mean() >= 0.9999
