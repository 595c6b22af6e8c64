from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest
import torch

from segmnv2.detection.box_predictor import BoxPredictor
from segmnv2.engines import selection
from segmnv2.engines.selection import ENGINES, choose_device, choose_engine, create_backend, refuse_streams
from segmnv2.errors import ConfigError
from segmnv2.inference.options import InferenceOptions
from segmnv2.paper.footprint import Stopwatch

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def without(monkeypatch, *names):
    absent = {name: dataclasses.replace(ENGINES[name], packages=("no_such_package",)) for name in names}
    monkeypatch.setattr(selection, "ENGINES", {**ENGINES, **absent})


def test_auto_chooses_the_first_installed_engine(monkeypatch):
    assert choose_engine("auto", "float32", CPU) == "openvino"
    without(monkeypatch, "openvino")
    assert choose_engine("auto", "float32", CPU) == "onnxruntime"
    without(monkeypatch, "openvino", "onnxruntime")
    assert choose_engine("auto", "float32", CPU) == "torch"


def test_auto_chooses_an_engine_with_the_precision_and_the_device(monkeypatch):
    assert choose_engine("auto", "float32", GPU) == "torch"
    assert choose_engine("auto", "float16", GPU) == "torch"
    assert choose_engine("auto", "bfloat16", GPU) == "torch"
    monkeypatch.setattr(selection, "cpu_has_bfloat16", lambda: True)
    assert choose_engine("auto", "bfloat16", CPU) == "openvino"


@pytest.mark.parametrize("name", ["auto", "openvino", "torch", "torch-compile"])
def test_bfloat16_is_refused_on_cpus_without_it(name, monkeypatch):
    monkeypatch.setattr(selection, "cpu_has_bfloat16", lambda: False)
    with pytest.raises(ConfigError, match=r"this CPU has no bfloat16 instructions.*give float32"):
        choose_engine(name, "bfloat16", CPU)


@pytest.mark.parametrize(("has", "remedy"), [(True, "give bfloat16 or float32"), (False, "give float32")])
def test_the_message_about_float16_names_only_precisions_of_the_cpu(has, remedy, monkeypatch):
    monkeypatch.setattr(selection, "cpu_has_bfloat16", lambda: has)
    with pytest.raises(ConfigError, match=f"on this CPU {remedy}$"):
        choose_engine("torch", "float16", CPU)


def test_bfloat16_is_refused_on_gpus_without_it(monkeypatch):
    monkeypatch.setattr(selection, "gpu_has_bfloat16", lambda device: False)
    with pytest.raises(ConfigError, match=r"cuda has no bfloat16.*give float16 or float32"):
        choose_engine("auto", "bfloat16", GPU)
    assert choose_engine("auto", "float16", GPU) == "torch"


def test_a_missing_engine_is_named_with_the_command_that_installs_it(monkeypatch):
    without(monkeypatch, "openvino")
    with pytest.raises(ConfigError, match=r"'openvino' needs no_such_package.*pip install 'segmnv2\[openvino\]'"):
        choose_engine("openvino", "float32", CPU)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tensorrt", "float32", CPU), r"'tensorrt' is not known; give one of auto, openvino"),
        (("onnxruntime", "bfloat16", CPU), r"does not compute bfloat16; give one of float32"),
        (("openvino", "float32", GPU), r"runs on the CPU only.*torch"),
        (("torch", "float16", CPU), r"float16 is for GPUs.*float32"),
        (("auto", "float16", CPU), r"float16 is for GPUs.*float32"),
        (("auto", "int8", GPU), r"runs on the CPU only, not on cuda"),
    ],
)
def test_an_engine_without_the_precision_or_device_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        choose_engine(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp32"}, "precision: 'fp32' is not known; give one of float32"),
        ({"threads": 0}, "threads: 0 is not a positive integer"),
        ({"threads": 100_000}, "threads: 100000 is more than 1024"),
        *(({"streams": streams}, f"streams: {streams} is not a positive integer") for streams in (0, -1, 1.5, True)),
    ],
)
def test_bad_options_are_refused(model, options, message):
    with pytest.raises(ConfigError, match=message):
        create_backend(model, "torch", **options)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_int8_needs_calibration_images(model, name):
    empty: tuple[Any, ...] = (None, [])
    for none in empty:
        with pytest.raises(ConfigError, match=r"precision: 'int8' needs images.*--calibration DIR"):
            create_backend(model, name, "int8", calibration=none)


def test_int8_names_its_missing_package(monkeypatch):
    monkeypatch.setattr(selection, "INT8_PACKAGES", ("no_such_package",))
    with pytest.raises(ConfigError, match=r"'openvino' needs no_such_package.*pip install 'segmnv2\[openvino\]'"):
        choose_engine("openvino", "int8", CPU)
    assert choose_engine("openvino", "float32", CPU) == "openvino"


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("torch-compile", CPU, "streams: 'torch-compile' computes one call at a time"),
        ("torch", torch.device("cuda"), "streams: 2 on cuda; a GPU runs several images at once as a batch"),
        ("auto", torch.device("cuda:1"), "streams: 2 on cuda:1"),
    ],
)
def test_streams_are_refused_on_gpus_and_by_engines_without_them(name, device, message):
    assert refuse_streams(name, 1, device) is None
    assert message in (refuse_streams(name, 2, device) or "")
    assert refuse_streams("auto", 2, CPU) is None


def test_torch_compile_refuses_streams(model):
    with pytest.raises(ConfigError, match="streams: 'torch-compile'"):
        create_backend(model, "torch-compile", streams=2)


def test_an_engine_describes_itself(model):
    assert str(create_backend(model, "torch", threads=1)) == "torch float32, 1 thread"
    threads = torch.get_num_threads()
    assert str(create_backend(model, "torch", threads=3, streams=2)) == "torch float32, 3 threads in 2 streams"
    torch.set_num_threads(threads)


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
def test_auto_chooses_the_first_gpu_that_can_run_the_engine(backend: str, precision: str, device: str) -> None:
    assert choose_device("auto", backend, precision) == torch.device(device)
    assert choose_device("cpu", backend, precision) == torch.device("cpu")


@pytest.mark.parametrize(("gpus", "streams", "device"), [(("cuda",), 1, "cuda"), (("cuda",), 4, "cpu")],
                         indirect=["gpus"])  # fmt: skip
@pytest.mark.usefixtures("gpus")
def test_auto_chooses_the_cpu_for_several_streams(streams: int, device: str) -> None:
    assert choose_device("auto", streams=streams) == torch.device(device)


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:", "cpu:0", "", "meta", "mps:0"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match=r"device: .* auto, cpu, cuda, cuda:N or mps"):
        choose_device(device)


@pytest.mark.parametrize(("gpus", "found", "absent"), [(("cuda",), "cuda:0", "cuda:1"), (("mps",), "mps", "cuda"),
                                                       ((), "cpu", "mps")], indirect=["gpus"])  # fmt: skip
@pytest.mark.usefixtures("gpus")
def test_a_device_must_be_available(found: str, absent: str) -> None:
    assert choose_device(found) == torch.device(found)
    with pytest.raises(ConfigError, match=f"'{absent}' is not available"):
        choose_device(absent)


@pytest.mark.parametrize("entry", [choose_device, InferenceOptions, BoxPredictor, BoxPredictor.load, Stopwatch])
def test_every_entry_point_chooses_the_device_by_default(entry: object) -> None:
    assert inspect.signature(entry).parameters["device"].default == "auto"  # type: ignore[arg-type]
