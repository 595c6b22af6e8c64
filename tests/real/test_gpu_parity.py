from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from segmnv2.datasets.voc import VocSegmentation
from segmnv2.evaluation.segmenters import evaluate
from segmnv2.inference.predictor import Predictor
from segmnv2.models.model_file import load_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU of NVIDIA's here"),
]

LEAST_EQUAL = {"float32": 0.999, "float16": 0.998, "bfloat16": 0.98}
IMAGES = 16


@pytest.mark.parametrize("precision", LEAST_EQUAL)
@pytest.mark.parametrize("batch", [1, 8])
def test_labels_equal_those_of_the_cpu(voc_weights: Path, shared: Path, precision: str, batch: int) -> None:
    dataset = VocSegmentation(shared / "data/VOCdevkit", "val")
    images = [dataset[index].image for index in range(IMAGES)]
    cpu = Predictor.load(voc_weights, device="cpu")
    gpu = Predictor.load(voc_weights, device="cuda", precision=precision, batch=batch)
    pairs = zip(cpu.predict_many(images), gpu.predict_many(images), strict=True)
    equal = float(np.mean([np.mean(ours.mask == theirs.mask) for ours, theirs in pairs]))
    print(f"{precision}, batch {batch}: {equal:.4%} of the labels are equal")
    assert equal >= LEAST_EQUAL[precision]


@pytest.mark.parametrize("backend", ["torch", "torch-compile"])
def test_the_evaluation_equals_that_of_the_cpu(voc_weights: Path, shared: Path, backend: str) -> None:
    dataset = VocSegmentation(shared / "data/VOCdevkit", "val")
    cpu, gpu = (
        evaluate(load_model(voc_weights), dataset, limit=IMAGES, device=device, backend=name)
        for device, name in (("cpu", "torch"), ("cuda", backend))
    )
    moved = int((cpu.confusion - gpu.confusion).abs().sum()) / 2
    print(f"mIOU {cpu.miou:.3f} and {gpu.miou:.3f} %; {moved:.0f} of {int(cpu.confusion.sum())} pixels differ")
    assert abs(cpu.miou - gpu.miou) < 0.1
    assert moved < 1e-3 * int(cpu.confusion.sum())
