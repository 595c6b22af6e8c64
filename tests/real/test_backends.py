"""Engines and precisions on the paper's network and real images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segmnv2.datasets.voc import VocSegmentation
from segmnv2.engines.selection import create_backend
from segmnv2.errors import ConfigError
from segmnv2.inference.options import calibration_pixels
from segmnv2.inference.scores import predict_labels


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_int8_keeps_nearly_all_labels_of_other_images(model, shared, images, backend):
    dataset = VocSegmentation(shared / "data/VOCdevkit", "val")
    calibration = calibration_pixels([dataset[index].image for index in range(40, 440, 20)], model.output_stride)
    engine = create_backend(model, backend, "int8", calibration=calibration)
    same = [predict_labels(engine, x) == predict_labels(model, x) for x in images]
    assert np.concatenate([part.ravel() for part in same]).mean() >= 0.99


@pytest.mark.parametrize(
    ("backend", "precision", "least"),
    [
        ("torch", "float32", 0.9999),
        ("onnxruntime", "float32", 0.9999),
        ("openvino", "float32", 0.9999),
        ("torch", "bfloat16", 0.98),
        ("openvino", "bfloat16", 0.98),
    ],
)
def test_labels_are_the_models(model, images, backend, precision, least):
    try:
        engine = create_backend(model, backend, precision)
    except ConfigError as error:
        pytest.skip(str(error))
    choices: list[dict[str, Any]] = [{}, {"scales": (0.75,), "flip": True}]
    for options in choices:
        same = [predict_labels(engine, x, **options) == predict_labels(model, x, **options) for x in images]
        assert np.concatenate([part.ravel() for part in same]).mean() >= least
