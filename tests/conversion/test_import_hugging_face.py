from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings

from segmnv2.conversion.convert import import_checkpoint
from segmnv2.conversion.import_hugging_face import read_hugging_face
from segmnv2.errors import WeightsError
from tests.damage import EXAMPLES, check_lawful, damage_json, many, randoms

CONFIG = {
    "architectures": ["MobileNetV2ForSemanticSegmentation"],
    "model_type": "mobilenet_v2",
    "depth_multiplier": 0.35,
    "depth_divisible_by": 8,
    "output_stride": 16,
    "tf_padding": True,
    "layer_norm_eps": 0.001,
    "id2label": {"0": "background", "1": "cat"},
}
PREPROCESSOR = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "do_rescale": True, "rescale_factor": 0.1}


def write(folder: Path, config: str, preprocessor: str) -> Path:
    (folder / "config.json").write_text(config)
    (folder / "preprocessor_config.json").write_text(preprocessor)
    torch.save({"mobilenet_v2.x": torch.ones(1)}, folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architectures", 1.5),
        ("architectures", [["x"]]),
        ("depth_multiplier", "mobilenet_v2"),
        ("depth_multiplier", [1]),
        ("depth_divisible_by", 1.5),
        ("id2label", 5),
        ("id2label", ["cat"]),
        ("output_stride", {}),
        ("id2label", {"0": "background", "2": "cat"}),
        ("id2label", {"0": "background", "01": "cat"}),
        ("id2label", {"0": None, "1": "cat"}),
        ("depth_multiplier", True),
        ("output_stride", True),
    ],
)
def test_values_of_other_types_are_refused(tmp_path: Path, key: str, value: object) -> None:
    write(tmp_path, json.dumps({**CONFIG, key: value}), json.dumps(PREPROCESSOR))
    with pytest.raises(WeightsError, match=r"config\.json: "):
        read_hugging_face(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("do_rescale", "false"),
        ("do_normalize", 0),
        ("rescale_factor", True),
        ("image_mean", [0.5] * 4),
        ("image_mean", "123"),
        ("image_mean", ["0.5", True, 0.5]),
        ("image_std", [1, 1]),
    ],
)
def test_preprocessing_of_other_types_is_refused(tmp_path: Path, key: str, value: object) -> None:
    write(tmp_path, json.dumps(CONFIG), json.dumps({**PREPROCESSOR, key: value}))
    with pytest.raises(WeightsError, match=r"preprocessor_config\.json: "):
        read_hugging_face(tmp_path)


@settings(many, max_examples=max(EXAMPLES // 10, 1))  # each builds a network
@given(randoms)
def test_reading_folders_is_lawful(tmp_path: Path, random: Random) -> None:
    first, second = json.dumps(CONFIG), json.dumps(PREPROCESSOR)
    if random.random() < 0.7:
        first = damage_json(CONFIG, random)
    else:
        second = damage_json(PREPROCESSOR, random)
    check_lawful(lambda: read_hugging_face(write(tmp_path, first, second)))


def test_a_repository_is_not_fetched_offline_and_damaged_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline: list[bool] = []
    folder, stored = tmp_path / "snapshot", tmp_path / ("0" * 64)  # the Hub's client names files by their checksums
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    stored.write_bytes(b"damaged")
    (folder / "model.safetensors").symlink_to(stored)

    def snapshot_download(name: str, *, allow_patterns: list[str], local_files_only: bool) -> str:
        offline.append(local_files_only)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    for switch in ("1", "0"):
        monkeypatch.setenv("SEGMNV2_OFFLINE", switch)
        with pytest.raises(WeightsError, match=r"model\.safetensors: its SHA-256 is not 0000.*: it is damaged"):
            import_checkpoint("owner/name", tmp_path / "out.safetensors")
    assert offline == [True, False]
