from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from segmnv2.engines import openvino
from segmnv2.engines.selection import ENGINES, create_backend
from segmnv2.errors import ConfigError
from segmnv2.inference.scores import predict_labels
from tests.export.shallow import shallow_balanced_model
from tests.stream_engines import STREAMING, build_engines

RUNNABLE = [
    (name, precision)
    for name, engine in ENGINES.items()
    for precision in ("float32", "bfloat16")
    if precision in engine.precisions and name != "torch-compile"
]


@pytest.fixture(scope="module")
def model():
    return shallow_balanced_model()


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
def test_logits_are_the_models_at_any_size_and_batch(engines, model, make_pixels, name, precision):
    backend = engines(name, precision)
    for shape in [(1, 3, 65, 65), (2, 3, 50, 81), (1, 3, 17, 33), (1, 3, 65, 65)]:
        pixels = make_pixels(shape, seed=1)
        expected = model.raw_logits(pixels)
        found = backend.raw_logits(pixels)
        assert found.dtype == torch.float32
        assert found.shape == expected.shape
        if precision == "float32":
            assert float((found - expected).abs().mean() / expected.std()) < 1e-4
        else:  # a narrow untrained model changes much in bfloat16; tests/real requires more of a trained one
            assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.8


class CountingRows(torch.nn.Module):
    """A layer that computes with the size of its map in Python, such as some layers with attention."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps * int(maps.shape[2])


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_model_that_an_engine_would_trace_for_one_size_only_is_refused(model, name):
    counting = copy.deepcopy(model)
    counting.backbone.stem = torch.nn.Sequential(counting.backbone.stem, CountingRows())
    with pytest.raises(ConfigError, match="gives other logits than this model"):
        create_backend(counting, name, threads=1)


def test_an_error_of_a_converter_gives_one_message(model, monkeypatch):
    def fail(_model):
        raise AssertionError("op ceil is not in _SYM_OPS")

    monkeypatch.setattr(openvino, "grid_model", fail)
    with pytest.raises(ConfigError, match=r"^backend: 'openvino' cannot convert this model \(op ceil is not in"):
        create_backend(model, "openvino", threads=1)


@pytest.mark.parametrize("name", [name for name, precision in RUNNABLE if precision == "float32"])
def test_an_engine_can_be_copied_and_sent_to_another_process(engines, make_pixels, name):
    backend, pixels = engines(name, "float32"), make_pixels((1, 3, 33, 49))
    expected = backend.raw_logits(pixels)
    for other in (copy.deepcopy(backend), pickle.loads(pickle.dumps(backend))):
        assert str(other) == str(backend)
        torch.testing.assert_close(other.raw_logits(pixels), expected, rtol=1e-3, atol=1e-3)  # folded in another order
    assert torch.equal(backend.raw_logits(pixels), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
@pytest.mark.parametrize("name", [name for name, precision in RUNNABLE if precision == "float32"])
def test_a_forked_process_gets_an_error(engines, make_pixels, name):
    backend, pixels = engines(name, "float32"), make_pixels((1, 3, 33, 49))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        if (child := os.fork()) == 0:
            try:
                backend.raw_logits(pixels)
            except ConfigError as error:
                os._exit(7 if "spawn" in str(error) else 1)
            os._exit(1)
    finally:
        torch.set_num_threads(threads)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize(("name", "precision"), RUNNABLE)
def test_logits_are_unchanged_by_the_next_call(engines, name, precision):
    backend = engines(name, precision)
    first = backend.raw_logits(torch.zeros(1, 3, 33, 33))
    kept = first.clone()
    backend.raw_logits(torch.full((1, 3, 33, 33), 200.0))
    assert torch.equal(first, kept)


@pytest.fixture
def keep_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", STREAMING)
def test_simultaneous_calls_give_the_logits_of_single_calls(model, make_pixels, name, keep_threads):
    single, many = build_engines(model, name, (1, 4))
    torch.set_num_threads(1)
    images = [make_pixels((1, 3, 17 + 16 * (seed % 3), 65), seed=seed) for seed in range(12)]
    expected = [single.raw_logits(image) for image in images]
    for backend in (single, many):
        with ThreadPoolExecutor(4, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            found = list(pool.map(backend.raw_logits, images))
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_compiled_size_can_be_dropped_while_it_is_used(engines, make_pixels, monkeypatch):
    backend = engines("openvino", "float32")
    monkeypatch.setattr(openvino, "KEPT_SHAPES", 1)
    backend._compiled.clear()
    images = [make_pixels((1, 3, 17 + 16 * (seed % 2), 33), seed=seed) for seed in range(8)]
    expected = [backend.raw_logits(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(backend.raw_logits, images))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert len(backend._compiled) == 1


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_labels_of_an_image_are_the_models(engines, model, name):
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8).repeat(12, 0).repeat(12, 1)
    choices: list[dict[str, Any]] = [{}, {"scales": (0.5, 1.25), "flip": True}]
    for options in choices:
        expected = predict_labels(model, image, size=97, **options)
        found = predict_labels(engines(name, "float32"), image, size=97, **options)
        assert (found == expected).mean() >= 0.9999


@pytest.mark.slow
@torch.inference_mode()
def test_the_compiled_model_gives_the_models_logits(model):
    backend = create_backend(model, "torch-compile", threads=1)
    pixels = torch.rand(1, 3, 50, 65) * 255
    expected = model.raw_logits(pixels)
    torch.testing.assert_close(backend.raw_logits(pixels), expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


SIGNALLED = """
import signal
import torch
from segmnv2.engines.selection import create_backend
from segmnv2.models.zoo import create_model

model = create_model("deeplabv3_mobilenet_v2", width=0.1).eval()
backends = [create_backend(model, "openvino", threads=1) for _ in range(3)]
for backend in backends:
    backend.raw_logits(torch.zeros(1, 3, 33, 33))
del backend
while backends:
    del backends[0]
signal.signal(signal.SIGINT, lambda *_: print("handled"))
signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.slow
def test_signals_are_handled_after_engines_were_deleted() -> None:
    pytest.importorskip("openvino")
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
