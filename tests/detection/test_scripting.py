"""Detectors leave Python where torchvision's own do: TorchScript, and ONNX by way of it."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import jaxtyping
import onnxruntime
import pytest
import torch
from torch import nn

from segmnv2.detection import create_detector, faster_rcnn, ssdlite
from segmnv2.detection.scripting import record_features, script_detector, with_scriptable_layers
from tests.marks import slow_where

# torchvision's warnings and PyTorch's, which means to replace TorchScript by torch.export: that takes no detector of
# torchvision's yet.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*in scripting:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*jit.* is deprecated"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:.*legacy TorchScript-based ONNX export:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning"),
]

NARROW: dict[str, Any] = {"num_classes": 4, "backbone_options": {"width": 0.35}}
SMALL: dict[str, Any] = {"min_size": 64, "max_size": 128, "rpn_post_nms_top_n_test": 40, "box_score_thresh": 0.0}

SUREST = 10
"""Detections that are far enough apart for their order to be the same in another library's arithmetic."""

BUILDS: dict[str, Callable[[], nn.Module]] = {
    "ssdlite": lambda: ssdlite(size=(96, 96), **NARROW),
    "ssdlite, stride 16": lambda: ssdlite(size=(97, 129), output_stride=16, **NARROW),
    "ssdlite on shufflenet": lambda: ssdlite("shufflenet_v2", size=(96, 96), num_classes=4),
    "faster_rcnn": lambda: faster_rcnn(**NARROW, **SMALL),
    "faster_rcnn, one map": lambda: faster_rcnn(fpn=False, **NARROW, **SMALL),
}


def build(name: str) -> nn.Module:
    """Return a detector whose maps vary as trained ones do: the order of equal scores would be a matter of chance."""
    torch.manual_seed(0)
    model = BUILDS[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.backbone.train()(torch.randn(4, 3, 96, 96))
    for part, parameter in model.named_parameters():
        if "classification_head" in part or "cls_score" in part:
            parameter.data *= 5
    return model.eval()


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What records a network sends no tensors through it."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def same(
    one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], pixels: float = 1e-3, score: float = 1e-4
) -> bool:
    tolerances = {"boxes": pixels, "labels": 0.0, "scores": score}
    return one.keys() == other.keys() and all(
        torch.allclose(one[key], other[key], rtol=0, atol=tolerances[key]) for key in one
    )


@pytest.mark.parametrize("name", slow_where(lambda name: name not in ("ssdlite", "faster_rcnn"), BUILDS))
def test_torchscript_finds_the_same_in_images_of_any_size(name: str) -> None:
    model = build(name)
    file = BytesIO()
    torch.jit.save(script_detector(model), file)
    file.seek(0)
    scripted = torch.jit.load(file)
    for size in ((96, 128), (65, 90)):
        images = [torch.rand(3, *size)]
        with torch.no_grad():
            expected, (losses, found) = model(images), scripted(images)
        assert losses == {}
        assert len(expected[0]["scores"]) > 0
        assert same(expected[0], found[0])


def test_the_detector_stays_as_it_is() -> None:
    model = create_detector("ssdlite", class_names={1: "a"}, size=96, backbone_options={"width": 0.35})
    names = [name for name, _ in model.named_modules()]
    script_detector(model)
    assert [name for name, _ in model.named_modules()] == names
    target = {"boxes": torch.tensor([[4.0, 4.0, 60.0, 60.0]]), "labels": torch.tensor([1])}
    losses = model.train()([torch.rand(3, 96, 96)] * 2, [target] * 2)
    sum(losses.values()).backward()


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("size", [(64, 97), (95, 32)])
def test_recorded_features_are_the_features(stride: int, size: tuple[int, int]) -> None:
    features = ssdlite(output_stride=stride, **NARROW).backbone.eval()
    recorded = record_features(with_scriptable_layers(features))
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        expected, found = features(x), recorded(x)
    assert list(expected) == list(found)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("name", ["ssdlite", "faster_rcnn"])
def test_onnx_runtime_finds_the_same(name: str, tmp_path: Path) -> None:
    model, images = build(name), [torch.rand(3, 96, 128)]
    path = tmp_path / "detector.onnx"
    names: dict[str, Any] = {"input_names": ["images"], "output_names": list(model(images)[0])}
    torch.onnx.export(model, (images,), str(path), dynamo=False, opset_version=17, **names)
    session = onnxruntime.InferenceSession(path)
    with torch.no_grad():
        expected = model(images)[0]
    values = session.run(None, {"images": images[0].numpy()})
    found = {each.name: torch.from_numpy(value) for each, value in zip(session.get_outputs(), values, strict=True)}
    assert len(found["scores"]) == len(expected["scores"]) > SUREST
    surest = [{key: value[:SUREST] for key, value in each.items()} for each in (expected, found)]
    assert same(surest[0], surest[1], pixels=0.01, score=1e-3)
