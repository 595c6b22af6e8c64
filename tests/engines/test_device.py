from __future__ import annotations

import inspect

import pytest
import torch

from segmnv2.detection.box_predictor import BoxPredictor
from segmnv2.engines.device import choose_device
from segmnv2.errors import ConfigError
from segmnv2.inference.options import InferenceOptions
from segmnv2.paper.stopwatch import Stopwatch


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in request.param)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int("cuda" in request.param))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in request.param)


@pytest.mark.parametrize(
    ("gpus", "backend", "precision", "device"),
    [
        ((), "torch", "float32", "cpu"),
        (("cuda",), "torch", "float32", "cuda"),
        (("mps",), "torch", "float32", "mps"),
        (("cuda", "mps"), "torch-compile", "float16", "cuda"),
        (("cuda",), "auto", "float32", "cuda"),
        (("cuda",), "auto", "int8", "cpu"),
        (("cuda",), "openvino", "float32", "cpu"),
        (("mps",), "onnxruntime", "float32", "cpu"),
    ],
    indirect=["gpus"],
)
@pytest.mark.usefixtures("gpus")
def test_auto_takes_the_first_gpu_that_can_run_what_is_chosen(backend: str, precision: str, device: str) -> None:
    assert choose_device("auto", backend, precision) == torch.device(device)
    assert choose_device("cpu", backend, precision) == torch.device("cpu")


@pytest.mark.parametrize(("gpus", "streams", "device"), [(("cuda",), 1, "cuda"), (("cuda",), 4, "cpu")],
                         indirect=["gpus"])  # fmt: skip
@pytest.mark.usefixtures("gpus")
def test_auto_takes_the_cpu_for_several_streams(streams: int, device: str) -> None:
    assert choose_device("auto", streams=streams) == torch.device(device)


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:", "cpu:0", "", "meta", "mps:0"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match=r"device: .* auto, cpu, cuda, cuda:N or mps"):
        choose_device(device)


@pytest.mark.parametrize(("gpus", "found", "absent"), [(("cuda",), "cuda:0", "cuda:1"), (("mps",), "mps", "cuda"),
                                                       ((), "cpu", "mps")], indirect=["gpus"])  # fmt: skip
@pytest.mark.usefixtures("gpus")
def test_a_device_must_be_there(found: str, absent: str) -> None:
    assert choose_device(found) == torch.device(found)
    with pytest.raises(ConfigError, match=f"'{absent}' is not there"):
        choose_device(absent)


@pytest.mark.parametrize("entry", [choose_device, InferenceOptions, BoxPredictor, BoxPredictor.load, Stopwatch])
def test_every_entry_chooses_by_itself(entry: object) -> None:
    assert inspect.signature(entry).parameters["device"].default == "auto"  # type: ignore[arg-type]
