"""The paper's network on real images, compared with TensorFlow's results from the same checkpoint.

The tests print the measured values; ``-rP`` shows them.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segmnv2.datasets.voc import VocSegmentation
from segmnv2.engines.selection import create_backend
from segmnv2.evaluation.segmenters import evaluate
from segmnv2.inference.canvas import SCALES, make_canvas
from segmnv2.inference.scores import predict_labels
from segmnv2.metrics.confusion import mean_iou
from segmnv2.models.cost import count_parameters
from segmnv2.models.model_file import load_model

AGREEMENT = 0.999
REFERENCE = "reference/tensorflow"


def voc(shared: Path) -> VocSegmentation:
    return VocSegmentation(shared / "data/VOCdevkit", "val")


def agreement(prediction: np.ndarray, reference: Path) -> float:
    expected = np.asarray(Image.open(reference))
    assert prediction.shape == expected.shape
    return float((prediction == expected).mean())


def test_both_checkpoints_are_imported_completely(voc_weights: Path, imagenet_weights: Path) -> None:
    model = load_model(voc_weights)
    assert count_parameters(model) == 2_113_557
    assert model.labels.names[8] == "cat"
    with pytest.raises(ValueError, match="holds a backbone"):
        load_model(imagenet_weights)


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["2007_000123", "2007_001299"])
def test_logits_before_upsampling(shared: Path, voc_weights: Path, name: str, output_stride: int) -> None:
    model = load_model(voc_weights, output_stride=output_stride)
    dataset = voc(shared)
    canvas = make_canvas(dataset[dataset.names.index(name)].image, 513, output_stride)
    with torch.inference_mode():
        ours = model.raw_logits(canvas.pixels)[0].numpy()
    with np.load(shared / REFERENCE / f"logits_{name}_os{output_stride}.npz") as file:
        (key,) = file.files
        difference = float(np.abs(ours - file[key]).max())
    print(f"{name} at output stride {output_stride}: largest difference of logits {difference:.1e}")
    assert difference <= 2e-3


@pytest.mark.parametrize(("output_stride", "images"), [(8, 3), (16, 6)])
def test_labels_of_a_few_images(shared: Path, voc_weights: Path, output_stride: int, images: int) -> None:
    model, dataset = load_model(voc_weights, output_stride=output_stride).eval(), voc(shared)
    for path in sorted((shared / REFERENCE / "labels" / f"os{output_stride}").glob("*.png"))[:images]:
        image = dataset[dataset.names.index(path.stem)].image
        assert agreement(predict_labels(model, image), path) >= AGREEMENT, path.stem


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("output_stride", [8, 16])
def test_labels_and_iou_of_the_447_images(shared: Path, voc_weights: Path, tmp_path: Path, output_stride: int) -> None:
    """Check each class's IoU within 0.05 points, and 99.9 % of the pixels of each stored label map."""
    key = f"os{output_stride}"
    reference = json.loads((shared / REFERENCE / "metrics.json").read_text())[key]
    result = evaluate(load_model(voc_weights), voc(shared), output_stride=output_stride, masks_out=tmp_path)
    assert result.images == 447
    expected = torch.tensor(reference["confusion"])
    absent = (expected.sum(0) + expected.sum(1) == 0).tolist()
    assert [value is None for value in result.iou.values()] == absent
    # The reference has an IoU of 0 for absent classes, which its mean over all 21 classes includes.
    iou = np.array([value or 0.0 for value in result.iou.values()])
    difference = np.abs(iou - reference["iou"]).max()
    print(f"{key}: largest difference of a class's IoU {difference:.5f} points, mIOU {result.miou:.4f}")
    assert difference <= 0.05
    assert iou.mean() == pytest.approx(reference["miou21"], abs=0.05)
    assert result.miou == pytest.approx(100 * mean_iou(expected), abs=0.05)
    dumped = sorted((shared / REFERENCE / "labels" / key).glob("*.png"))
    assert len(dumped) == 40
    shares = {p.stem: agreement(np.asarray(Image.open(tmp_path / p.name)), p) for p in dumped}
    print(f"{key}: least equal pixels among {len(shares)} label maps {100 * min(shares.values()):.4f} %")
    assert min(shares.values()) >= AGREEMENT, min(shares, key=shares.__getitem__)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("backend", "images"), [("torch", 4), ("openvino", 16)])
def test_labels_with_six_scales_and_flips(shared: Path, voc_weights: Path, backend: str, images: int) -> None:
    engine = create_backend(load_model(voc_weights, output_stride=8), backend)
    dataset = voc(shared)
    dumped = sorted((shared / REFERENCE / "labels/os8_mf").glob("*.png"))
    assert len(dumped) == 16
    shares = {}
    for path in dumped[:images]:
        image = dataset[dataset.names.index(path.stem)].image
        shares[path.stem] = agreement(predict_labels(engine, image, scales=SCALES, flip=True), path)
    print(f"os8_mf, {engine}: least equal pixels among {len(shares)} label maps {100 * min(shares.values()):.4f} %")
    assert min(shares.values()) >= AGREEMENT, min(shares, key=shares.__getitem__)
