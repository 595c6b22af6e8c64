from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from segmnv2.benchmark import inference_speed as inference
from segmnv2.benchmark import peers
from segmnv2.benchmark.data import square_images
from segmnv2.benchmark.inference_speed import (
    Choice,
    Setting,
    build_eager_loop,
    build_ours,
    build_peer,
    contenders,
    parse_engines,
    parse_peers,
)
from segmnv2.engines import selection
from segmnv2.errors import ConfigError
from segmnv2.inference.canvas import SCALES
from segmnv2.inference.options import InferenceOptions
from segmnv2.inference.scores import predict_labels
from segmnv2.models.zoo import create_model

CPU = torch.device("cpu")


def setting(burst: int = 1, **options) -> Setting:
    return Setting(InferenceOptions(**{"size": 65, "threads": 1, "device": "cpu", **options}), burst=burst)


@pytest.fixture
def keep_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def images():
    return square_images(None, 65)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("deeplabv3_mobilenet_v2", {"width": 1.0}, True),
        ("deeplabv3_mobilenet_v2", {"width": 0.35}, False),
        ("deeplabv3_mobilenet_v2", {"padding": "symmetric"}, False),
        ("deeplabv3_mobilenet_v2_aspp", {}, False),
    ],
)
def test_only_the_same_model_is_compared_as_the_same(name, options, expected):
    """Weights of others do not fit, or only partly."""
    with torch.device("meta"):
        assert peers.is_transformers_model(create_model(name, **options)) is expected


def test_transformers_model_with_copied_weights_gives_equal_logits():
    model = setting().model()
    with torch.no_grad():
        model.train()(torch.rand(4, 3, 65, 65) * 255)  # norms that are not those of a new network
    peer = peers.PEERS["transformers"].build(21, 16, None)
    peers.copy_weights(model.eval(), peer.network)
    pixels = torch.randint(0, 256, (2, 3, 65, 65), dtype=torch.uint8)
    found = peer.network((pixels.float() / 255 - peer.mean) / peer.std).logits
    torch.testing.assert_close(found, model.raw_logits(pixels.float()), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", list(peers.PEERS))
def test_every_peer_labels_images(name, images, keep_threads):
    turn: Any = build_peer(setting(burst=2), images, name, compiled=False)(0)
    assert len(turn) == 2
    (labels,) = turn[0]
    assert labels.shape == ((64, 64) if name == "smp" else (65, 65))


@pytest.mark.parametrize("multi_scale", [False, True])
def test_our_contender_and_the_eager_loop_give_the_models_labels(images, keep_threads, multi_scale):
    chosen = setting(batch=2, multi_scale=multi_scale, flip=multi_scale)
    model = chosen.model()
    scales = SCALES if multi_scale else (1.0,)
    expected = [predict_labels(model, image, size=65, scales=scales, flip=multi_scale) for image in images[2:4]]
    steps = [build_ours(chosen, images, chosen.options), *([build_eager_loop(chosen, images)] * multi_scale)]
    for step in steps:
        turn: Any = step(1)
        assert np.mean([a == b for a, b in zip(turn[0], expected, strict=True)]) > 0.999


def test_contenders_are_the_chosen_ones_that_are_installed(images, monkeypatch):
    choice = Choice([("torch", "float32"), ("openvino", "int8")], compiled=True)
    names = list(contenders(images, setting(output_stride=8), choice, images))
    assert names == [
        "transformers",
        "transformers, compiled",
        "smp",
        "smp, compiled",
        "segmnv2 torch float32",
        "segmnv2 openvino int8",
    ]
    absent = dataclasses.replace(peers.PEERS["smp"], package="no_such_package")
    monkeypatch.setitem(peers.PEERS, "smp", absent)
    assert "smp" not in contenders(images, setting(), choice, images)
    assert next(iter(contenders(images, setting(multi_scale=True), choice, images))) == "eager loop"


def test_options_of_engines_and_peers_are_parsed():
    assert parse_engines("torch, onnxruntime:float32", CPU) == [("torch", "float32"), ("onnxruntime", "float32")]
    everything = parse_engines(None, CPU)
    assert ("torch", "float32") in everything
    assert not {name for name, _ in everything} & {"torch-compile"}
    assert parse_peers("") == []
    for read, message in [
        (lambda: parse_engines("tensorrt", CPU), "'tensorrt' is not known"),
        (lambda: parse_engines("torch:half", CPU), "'half' is not known"),
        (lambda: parse_peers("mmseg"), "--peers 'mmseg': is not known; give some of transformers"),
    ]:
        with pytest.raises(ConfigError, match=message):
            read()


def test_engines_that_cannot_run_here_are_skipped_with_the_reason(monkeypatch):
    monkeypatch.setattr(selection, "cpu_has_bfloat16", lambda: False)
    reasons: list[str] = []
    found = parse_engines("torch:bfloat16, torch, onnxruntime:float16", CPU, on_skip=reasons.append)
    assert found == [("torch", "float32")]
    assert [reason.split(" is skipped: ")[0] for reason in reasons] == ["torch:bfloat16", "onnxruntime:float16"]
    assert "no bfloat16 instructions" in reasons[0]
    with pytest.raises(ConfigError, match=r"torch:bfloat16 is skipped: .*no bfloat16"):
        parse_engines("torch:bfloat16", CPU)


def test_contenders_are_compared_with_the_first_one_eager_and_compiled() -> None:
    seconds = {"peer": [2.0, 2.0], "peer, compiled": [1.0, 1.0], "ours": [0.5, 0.5]}
    notes = {name: inference._note(name, seconds, 3.0) for name in seconds}
    assert notes["peer"] == "peak 3 MB"
    assert [part.split(" (")[0] for part in notes["ours"].split("; ")] == ["4.00", "2.00", "peak 3 MB"]
    assert notes["ours"].index("times as fast as peer;") < notes["ours"].index("times as fast as peer, compiled;")
    assert "as peer, compiled" not in notes["peer, compiled"]
