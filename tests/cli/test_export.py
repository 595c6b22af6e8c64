from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segmnv2.cli import main
from segmnv2.models.model_file import save_model
from segmnv2.models.zoo import create_model


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = create_model("deeplabv3_mobilenet_v2", num_classes=3, width=0.35)
    return save_model(tmp_path_factory.mktemp("weights") / "small.safetensors", model)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    photos, masks = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("masks")
    chance = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(chance.integers(0, 256, (35, 48, 3), dtype=np.uint8)).save(photos / f"{name}.png")
        Image.fromarray(chance.integers(0, 3, (35, 48), dtype=np.uint8)).save(masks / f"{name}.png")
    return photos, masks


def test_a_model_is_exported_and_verified(weights, folders, tmp_path, capsys):
    out, figures = tmp_path / "deep" / "small.pt2", tmp_path / "figures.json"
    photos, masks = map(str, folders)
    options = f"--format torch --size 40,56 --output-stride 8 --images {photos} --threads 1"
    assert main(["export", str(weights), "--out", str(out), *options.split()]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{out} written, ")
    assert "label on 2 images in photos" in told
    described = json.loads(out.with_name("small.pt2.json").read_text())
    assert (described["size"], described["output_stride"]) == ([40, 56], 8)

    options = f"--against {weights} --images {photos} --masks {masks} --limit 1 --repeats 1 --json {figures}"
    assert main(["verify", str(out), *options.split()]) == 0
    told = capsys.readouterr().out
    for part in ("pixels with the model's label", "mIOU before, after", "latency at 56x40", "not known"):
        assert part in told
    assert json.loads(figures.read_text())["count"] == 1


def test_a_file_that_differs_gives_one_message_and_is_not_written(weights, folders, tmp_path, capsys, monkeypatch):
    from segmnv2.export import torch_file

    class Wrong(torch.nn.Module):
        def forward(self, logits, image):
            return torch.full(image.shape[:3], 9, dtype=torch.uint8)

    monkeypatch.setattr(torch_file, "CellLabels", lambda stride: Wrong())
    order = ["export", str(weights), "--out", str(tmp_path / "a.pt2"), "--format", "torch", "--size", "40"]
    assert main([*order, "--images", str(folders[0])]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.endswith("...")]
    assert len(errors) == 1
    assert errors[0].startswith("error: torch float32: 0.000 % of pixels have the model's label")
    assert not list(tmp_path.iterdir())

    assert main([*order, "--no-verify"]) == 0
    assert "not compared" in capsys.readouterr().out
    verified = ["verify", str(tmp_path / "a.pt2"), "--against", str(weights), "--images", str(folders[0])]
    assert main([*verified, "--repeats", "0"]) == 2
    assert main([*verified, "--repeats", "0", "--least-agreement", "0"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--format keras", "format: 'keras' is not known; give one of onnx, "),
        ("--format torch --size wide", "--size: 'wide' is not understood"),
        ("--format torch --size 1,2,3", "--size: '1,2,3' is not understood"),
        ("--format torch --precision int8", "'torch' is not written in int8"),
        ("--format onnx --precision int8", "ends in .onnx"),
    ],
)
def test_wrong_options_give_one_message(weights, tmp_path, capsys, options, message):
    assert main(["export", str(weights), "--out", str(tmp_path / "a.pt2"), *options.split()]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert message in errors[0]
