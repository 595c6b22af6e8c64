from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import segmnv2
from segmnv2 import detection
from segmnv2.errors import WeightsError
from segmnv2.hub import resolve as by_name

LOADERS: dict[str, Callable[[str], Any]] = {
    "create_model": lambda name: segmnv2.create_model("deeplabv3_mobilenet_v2", weights=name),
    "create_model, backbone": lambda name: segmnv2.create_model("deeplabv3_mobilenet_v2", backbone_weights=name),
    "create_classifier": lambda name: segmnv2.create_classifier("mobilenet_v2", weights=name),
    "load_model": segmnv2.load_model,
    "load_weights": lambda name: segmnv2.load_weights(segmnv2.create_model("deeplabv3_mobilenet_v2", width=0.35), name),
    "load_classifier": segmnv2.load_classifier,
    "Predictor.load": segmnv2.Predictor.load,
    "ssdlite": lambda name: detection.ssdlite("mobilenet_v2", backbone_weights=name),
    "faster_rcnn": lambda name: detection.faster_rcnn("mobilenet_v2", backbone_weights=name),
    "create_detector": lambda name: detection.create_detector("ssdlite", class_names={1: "a"}, backbone_weights=name),
    "load_detector": detection.load_detector,
}


@pytest.mark.parametrize("loader", LOADERS)
def test_each_loader_takes_names_and_lists_those_it_knows(loader: str) -> None:
    with pytest.raises(WeightsError, match=r"voc_mobilenet_v3: .*did you mean voc_mobilenet_v2"):
        LOADERS[loader]("voc_mobilenet_v3")


def test_a_name_loads_the_file_that_it_stands_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = segmnv2.create_model("deeplabv3_mobilenet_v2", width=0.35, num_classes=2)
    path = segmnv2.save_model(tmp_path / "model.safetensors", model)
    monkeypatch.setattr(by_name, "resolve_weights", lambda name: {"mine": path}[name])
    weight = model.backbone.state_dict().popitem()[1]
    for loaded in (
        segmnv2.load_model("mine"),
        segmnv2.create_model("deeplabv3_mobilenet_v2", width=0.35, num_classes=2, weights="mine"),
    ):
        assert loaded.backbone.state_dict().popitem()[1].equal(weight)
