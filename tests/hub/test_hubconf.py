"""``torch.hub`` finds this repository's entry points."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path

import pytest
import torch

import segmnv2
from segmnv2.errors import WeightsError
from segmnv2.models.segmenter import Segmenter

REPOSITORY = str(Path(__file__).resolve().parents[2])


def load(name: str, **options: object) -> torch.nn.Module:
    return torch.hub.load(REPOSITORY, name, source="local", **options)


def test_entry_points_explain_themselves() -> None:
    """``torch.hub.list`` and ``help`` ask GitHub; what they would find are the public functions of the file."""
    spec = importlib.util.spec_from_file_location("hubconf", Path(REPOSITORY, "hubconf.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = {name for name, each in vars(module).items() if inspect.isfunction(each) and not name.startswith("_")}
    assert found == {"deeplabv3_mobilenet_v2", "deeplabv3_mobilenet_v2_aspp", "mobilenet_v2"}
    assert all("weights" in (getattr(module, name).__doc__ or "") for name in found)
    assert all(importlib.util.find_spec(name) for name in module.dependencies)


def test_networks_come_with_weights_or_without(model: Segmenter, tmp_path: Path) -> None:
    path = segmnv2.save_model(tmp_path / "m.safetensors", model)
    again = load("deeplabv3_mobilenet_v2", weights=str(path), width=0.35, num_classes=3)
    pixels = torch.randint(0, 256, (1, 3, 33, 33), dtype=torch.uint8)
    assert torch.equal(again(pixels), model(pixels))
    assert not again.training
    fresh = load("deeplabv3_mobilenet_v2_aspp", output_stride=8, width=0.35)
    assert fresh.output_stride == 8
    backbone = load("mobilenet_v2", weights=str(path), width=0.35)
    assert torch.equal(next(backbone.parameters()), next(model.backbone.parameters()))


def test_published_weights_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMNV2_OFFLINE", "1")
    for name, weights in (("deeplabv3_mobilenet_v2", "voc_mobilenet_v2"), ("mobilenet_v2", "imagenet_mobilenet_v2")):
        with pytest.raises(WeightsError, match=f"{weights}: is not in the cache"):
            load(name)
