from __future__ import annotations

import numpy as np
import pytest
import torch

from segmnv2.backends.selection import ENGINES, create_backend
from segmnv2.inference.scores import predict_labels

RUNNABLE = [
    (name, precision)
    for name, engine in ENGINES.items()
    for precision in ("float32", "bfloat16")
    if precision in engine.precisions and name != "torch-compile"
]


@pytest.fixture(scope="module")
def engines(model):
    found = {}

    def get(name, precision):
        if (name, precision) not in found:
            try:
                found[name, precision] = create_backend(model, name, precision, threads=1)
            except Exception as error:
                if "no bfloat16" not in str(error):
                    raise
                pytest.skip(str(error))
        return found[name, precision]

    return get


@pytest.mark.parametrize(("name", "precision"), RUNNABLE)
@torch.inference_mode()
def test_any_size_and_batch_gives_the_networks_own_logits(engines, model, pictures, name, precision):
    backend = engines(name, precision)
    for shape in [(1, 3, 65, 65), (2, 3, 50, 81), (1, 3, 17, 33), (1, 3, 65, 65)]:
        pixels = pictures(shape, seed=1)
        expected = model.raw_logits(pixels)
        found = backend.raw_logits(pixels)
        assert found.dtype == torch.float32
        assert found.shape == expected.shape
        if precision == "float32":
            assert float((found - expected).abs().mean() / expected.std()) < 1e-4
        else:  # a narrow untrained network is hard on bfloat16; tests/real asks more of a trained one
            assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.8


@pytest.mark.parametrize(("name", "precision"), RUNNABLE)
def test_an_answer_stays_when_the_next_is_asked_for(engines, name, precision):
    backend = engines(name, precision)
    first = backend.raw_logits(torch.zeros(1, 3, 33, 33))
    kept = first.clone()
    backend.raw_logits(torch.full((1, 3, 33, 33), 200.0))
    assert torch.equal(first, kept)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_labels_of_a_picture_are_the_networks(engines, model, name):
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8).repeat(12, 0).repeat(12, 1)
    for options in ({}, {"scales": (0.5, 1.25), "flip": True}):
        expected = predict_labels(model, image, size=97, **options)
        found = predict_labels(engines(name, "float32"), image, size=97, **options)
        assert (found == expected).mean() >= 0.9999


@pytest.mark.slow
@torch.inference_mode()
def test_the_compiled_network_is_the_network(model):
    backend = create_backend(model, "torch-compile", threads=1)
    pixels = torch.rand(1, 3, 50, 65) * 255
    expected = model.raw_logits(pixels)
    torch.testing.assert_close(backend.raw_logits(pixels), expected, atol=1e-4 * float(expected.abs().max()), rtol=0)
