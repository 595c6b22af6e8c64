from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from segmnv2.backbones.backbone import create_backbone
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.heads.deeplab_v3 import DeepLabV3Head
from segmnv2.labels import LabelSet, voc_palette
from segmnv2.models.model_file import load_model, load_weights, read_description, save_backbone, save_model
from segmnv2.models.pixels import IMAGENET_NORMALIZATION, TENSORFLOW_NORMALIZATION, Normalization
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model
from segmnv2.weights.safetensors_file import read_safetensors, write_safetensors

LABELS = LabelSet(("ground", "tree", "house"), voc_palette(3), ignore_index=200)


def small(**options: Any) -> Segmenter:
    return create_model("deeplabv3_mobilenet_v2_aspp", labels=LABELS, width=0.35, **options)


def test_one_file_rebuilds_the_model(tmp_path: Path) -> None:
    model = small(output_stride=8, padding="symmetric", normalization=IMAGENET_NORMALIZATION).eval()
    back = load_model(save_model(tmp_path / "new" / "m.safetensors", model, {"steps": 3}))
    pixels = torch.randint(0, 256, (1, 3, 40, 33), dtype=torch.uint8)
    assert torch.equal(back(pixels), model(pixels))
    assert (back.labels, back.output_stride, back.architecture) == (LABELS, 8, model.architecture)
    assert back.normalization == IMAGENET_NORMALIZATION
    assert not back.training
    assert read_safetensors(tmp_path / "new" / "m.safetensors")[1]["provenance"] == {"steps": 3}


def test_the_current_output_stride_is_saved_and_another_can_be_requested(tmp_path: Path) -> None:
    model = small(output_stride=16)
    model.set_output_stride(32)
    path = save_model(tmp_path / "m.safetensors", model)
    assert load_model(path).output_stride == 32
    assert load_model(path, output_stride=8).output_stride == 8


def test_normalization_is_kept_to_the_last_digit_and_stated_once(tmp_path: Path) -> None:
    model = small(normalization=Normalization((123.456789, 1 / 3, 0), (0.00123456, 58.123456789, 1))).eval()
    path = save_model(tmp_path / "m.safetensors", model)
    pixels = torch.randint(0, 256, (1, 3, 40, 33), dtype=torch.uint8)
    for again in (load_model(path), small(weights=path).eval()):
        assert torch.equal(again(pixels), model(pixels))
    for half in (torch.float16, torch.bfloat16):
        file = save_model(tmp_path / "h.safetensors", small(normalization=IMAGENET_NORMALIZATION).to(half))
        assert load_model(file).normalization.mean == pytest.approx(IMAGENET_NORMALIZATION.mean, rel=2**-8)
    tensors, metadata = read_safetensors(path)
    write_safetensors(path, tensors, {**metadata, "normalization": {"mean": [127.5] * 3, "std": [127.5] * 3}})
    for load in (load_model, lambda path: load_weights(model, path)):
        with pytest.raises(WeightsError, match=r"m\.safetensors: its tensor pixel_mean is .*, its metadata says \[127"):
            load(path)


def test_a_truncated_file_is_named_at_any_length(tmp_path: Path) -> None:
    path = save_model(tmp_path / "m.safetensors", small())
    whole = path.read_bytes()
    for end in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(WeightsError, match=r"m\.safetensors.*truncated"):
            load_model(path)


def test_files_of_other_programs_are_recognized(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(WeightsError, match="not of segmnv2"):
        load_model(foreign)
    newer = write_safetensors(
        tmp_path / "n.safetensors", {"a": torch.zeros(1)}, {"kind": "model", "architecture": {}, "format": 9}
    )
    with pytest.raises(WeightsError, match="format 9"):
        load_model(newer)
    with pytest.raises(WeightsError, match="no such file"):
        load_model(tmp_path / "absent.safetensors")
    with pytest.raises(WeightsError, match="is a folder"):
        load_model(tmp_path)


def test_a_backbone_file_is_not_a_model_but_can_start_one(tmp_path: Path) -> None:
    backbone = create_backbone("mobilenet_v2", width=0.35, last_conv=True)
    options = {"width": 0.35, "last_conv": True}
    path = save_backbone(tmp_path / "b.safetensors", backbone, "mobilenet_v2", options, TENSORFLOW_NORMALIZATION)
    with pytest.raises(WeightsError, match="holds a backbone"):
        load_model(path)
    with pytest.raises(WeightsError, match="backbone_weights"):
        small(weights=path)
    model = small(backbone_weights=path)
    again = save_backbone(
        tmp_path / "c.safetensors", backbone, "mobilenet_v2", {**options, "pretrained": None}, TENSORFLOW_NORMALIZATION
    )
    assert read_description(again) == read_description(path)
    loaded = backbone.state_dict()
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, loaded[name])
    with pytest.raises(WeightsError, match=r"width: 0\.35 in the file, 1\.0 in the model[\s\S]*width=0\.35"):
        create_model("deeplabv3_mobilenet_v2", backbone_weights=path)


def test_other_classes_keep_all_but_the_logits(tmp_path: Path) -> None:
    model = create_model("deeplabv3_mobilenet_v2_aspp", width=0.35)
    path = save_model(tmp_path / "voc.safetensors", model)
    with pytest.raises(WeightsError, match="keep_logits"):
        small(weights=path)
    tuned = small(weights=path, keep_logits=False)
    kept, given = tuned.head.state_dict(), model.head.state_dict()
    assert torch.equal(kept["projection.conv.weight"], given["projection.conv.weight"])
    assert tuned.num_classes == 3
    with pytest.raises(WeightsError, match="missing in the checkpoint"):
        load_weights(tuned, save_model(tmp_path / "x.safetensors", create_model("deeplabv3_mobilenet_v2", width=0.35)))


def test_nothing_is_loaded_when_something_does_not_fit(tmp_path: Path) -> None:
    path = save_model(tmp_path / "voc.safetensors", create_model("deeplabv3_mobilenet_v2_aspp", width=0.35))
    model = small()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(WeightsError):
        load_weights(model, path)
    after = model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


def test_a_model_joined_from_parts_cannot_be_saved(tmp_path: Path) -> None:
    model = Segmenter(create_backbone("mobilenet_v2", width=0.35), DeepLabV3Head(112, 2, aspp=False))
    with pytest.raises(ConfigError, match="joined from parts"):
        save_model(tmp_path / "m.safetensors", model)
    assert list(tmp_path.iterdir()) == []


def test_a_description_that_cannot_be_built_names_the_file(tmp_path: Path) -> None:
    path = save_model(tmp_path / "m.safetensors", small())
    tensors, metadata = read_safetensors(path)
    metadata["architecture"]["name"] = "deeplabv9"
    write_safetensors(path, tensors, metadata)
    with pytest.raises(WeightsError, match=r"m\.safetensors.*deeplabv9"):
        load_model(path)
