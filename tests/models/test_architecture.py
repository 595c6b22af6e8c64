"""Damaged metadata of all kinds of model files: a file loads or gives a SegmnError without large allocations."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings

from segmnv2.backbones.backbone import create_backbone
from segmnv2.detection.detector import create_detector, load_detector, load_detector_weights, save_detector
from segmnv2.detection.families import FAMILIES, detector_options
from segmnv2.errors import WeightsError
from segmnv2.models.classifier import create_classifier, load_classifier, save_classifier
from segmnv2.models.model_file import (
    load_backbone_weights,
    load_model,
    load_weights,
    read_model_file,
    save_backbone,
    save_model,
)
from segmnv2.models.pixels import TENSORFLOW_NORMALIZATION
from segmnv2.models.zoo import create_model
from tests.damage import EXAMPLES, VALUES, check_lawful, damage_json, many, randoms

pytestmark = pytest.mark.usefixtures("unchecked")

SMALL: dict[str, Any] = {"width": 0.35}
Load = Callable[[Path], object]


def read_header(path: Path) -> tuple[dict[str, Any], bytes]:
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def write_header(path: Path, header: dict[str, Any], rest: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + rest)
    return path


def changed(source: Path, path: Path, **values: Any) -> Path:
    """Write a copy of a file with other values in its metadata; ``architecture__name`` is a nested key."""
    header, rest = read_header(source)
    metadata = {key: json.loads(text) for key, text in header["__metadata__"].items()}
    for keys, value in values.items():
        *outer, last = keys.split("__")
        place = metadata
        for key in outer:
            place = place[key]
        place[last] = value
    header["__metadata__"] = {key: json.dumps(value) for key, value in metadata.items()}
    return write_header(path, header, rest)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, tuple[Load, ...]]]:
    folder = tmp_path_factory.mktemp("files")
    network = create_model("deeplabv3_mobilenet_v2", num_classes=2, **SMALL)
    classifier = create_classifier("mobilenet_v2", num_classes=2, **SMALL)
    detector = create_detector("ssdlite", class_names={1: "a"}, size=96, backbone_options=SMALL)
    # With one map of 16 channels, the first linear layer has 5 MB and not 50.
    other = create_detector("faster_rcnn", class_names={1: "a"}, size=64, backbone_options={"width": 0.05}, fpn=False)
    return {
        "model": (
            save_model(folder / "m.safetensors", network, {"experiment": {}}),
            (
                load_model,
                lambda path: load_weights(network, path),
                lambda path: load_weights(network, path, backbone_only=True),
            ),
        ),
        "classifier": (
            save_classifier(folder / "c.safetensors", classifier),
            (load_classifier, lambda path: load_weights(classifier, path)),
        ),
        "detector": (
            save_detector(folder / "d.safetensors", detector),
            (load_detector, lambda path: load_detector_weights(detector, path)),
        ),
        "faster_rcnn": (
            save_detector(folder / "f.safetensors", other),
            (load_detector, lambda path: load_detector_weights(other, path)),
        ),
    }


@pytest.mark.parametrize("kind", ["model", "classifier", "detector", "faster_rcnn"])
@settings(many, max_examples=-(-EXAMPLES // 4))
@given(random=randoms)
def test_any_metadata_loads_or_is_refused(kind: str, random: Random, files: Any, tmp_path: Path) -> None:
    source, loads = files[kind]
    header, rest = read_header(source)
    metadata = header["__metadata__"]
    key = random.choice(list(metadata))
    metadata[key] = damage_json(json.loads(metadata[key]), random).encode(errors="replace").decode()
    path = write_header(tmp_path / "x.safetensors", header, rest)
    check_lawful(lambda: read_model_file(path))
    check_lawful(lambda: random.choice(loads)(path))


@settings(many, max_examples=-(-EXAMPLES // 4))
@given(random=randoms)
def test_any_options_build_a_detector_or_are_refused(random: Random) -> None:
    detector = random.choice(list(FAMILIES))
    given: dict[str, Any] = {"class_names": {1: "a"}, "size": 96, "backbone_options": dict(SMALL)}
    keys = (*given, *detector_options(detector), "output_stride", "class_names")
    given |= {key: random.choice((*VALUES, 8, 0.5)) for key in random.choices(keys, k=2)}
    with torch.device("meta"):
        check_lawful(lambda: create_detector(detector, **given))


@settings(many, max_examples=-(-EXAMPLES // 10))
@given(random=randoms)
def test_any_metadata_of_a_backbone_loads_or_is_refused(random: Random, tmp_path: Path) -> None:
    backbone = create_backbone("mobilenet_v2", **SMALL)
    path = save_backbone(tmp_path / "b.safetensors", backbone, "mobilenet_v2", SMALL, TENSORFLOW_NORMALIZATION)
    header, rest = read_header(path)
    metadata = header["__metadata__"]
    key = random.choice(list(metadata))
    metadata[key] = damage_json(json.loads(metadata[key]), random).encode(errors="replace").decode()
    write_header(path, header, rest)
    check_lawful(lambda: load_backbone_weights(backbone, "mobilenet_v2", SMALL, path))
    check_lawful(lambda: load_model(path))


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("model", {"architecture": "x"}, "architecture 'x' is not possible; it must be a valid dictionary"),
        ("model", {"architecture__num_classes": 10**9}, "architecture.num_classes 1000000000 is not possible"),
        ("model", {"architecture__output_stride": 16.0}, "architecture.output_stride: 16.0 is not an integer"),
        ("model", {"architecture__backbone__width": {}}, r"width \{\} is not possible; it must be a valid number"),
        ("model", {"architecture__backbone__name": "x"}, "architecture.backbone: name is not an option"),
        ("model", {"architecture__backbone__pretrained": True}, "names weights to download"),
        ("model", {"architecture__backbone__width": 4.0}, "does not fit Segmenter"),
        ("model", {"architecture__groups": 5}, "its metadata is damaged: architecture.groups is unknown;"),
        ("model", {"normalization": 5}, "normalization 5 is not possible"),
        ("model", {"normalization__mean": [1, 2]}, "normalization.mean.2 is missing"),
        ("model", {"normalization__std": [1, 2, 0]}, "normalization.std.2 0 is not possible"),
        ("model", {"labels": []}, r"labels \[\] is not possible"),
        ("model", {"labels__names": "ab"}, "'names' is 'ab'"),
        ("model", {"provenance": 1}, "provenance 1 is not possible"),
        ("classifier", {"architecture__class_names": {"a": 1}}, "architecture.class_names"),
        ("classifier", {"architecture__name": ["x"]}, r"architecture.name \['x'\] is not possible"),
        ("detector", {"architecture__class_names": {"9999999999": "a"}}, "architecture.class_names"),
        ("detector", {"architecture__class_names": {"4096": "a"}}, "ids are 1 to 4095"),
        ("detector", {"architecture__size": 10**9}, "architecture.size 1000000000 is not possible"),
        ("detector", {"architecture__options": {"class_names": 1}}, "class_names is not an option"),
        ("detector", {"architecture__options": {"score_thresh": "x"}}, "architecture.options.score_thresh"),
        (
            "detector",
            {"architecture__options": {"topk_candidates": 1.5}},
            "takes an integer as topk_candidates",
        ),
        ("detector", {"architecture__backbone": {"shortcut": 5}}, "shortcut 5 is not possible"),
    ],
)
def test_an_impossible_value_is_named(
    kind: str, values: dict[str, Any], message: str, files: Any, tmp_path: Path
) -> None:
    source, loads = files[kind]
    path = changed(source, tmp_path / "x.safetensors", **values)
    with pytest.raises(WeightsError, match=message) as caught:
        loads[0](path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 20_000 + "]" * 20_000, "NaN", '{"a": 1, "a": 2}', "\x00"])
def test_text_other_than_json_is_refused(text: str, files: Any, tmp_path: Path) -> None:
    header, rest = read_header(files["model"][0])
    for key in ("architecture", "labels", "normalization", "provenance", "kind", "format"):
        metadata = {**header["__metadata__"], key: text}
        path = write_header(tmp_path / "x.safetensors", {**header, "__metadata__": metadata}, rest)
        with pytest.raises(WeightsError):
            load_model(path)


def test_a_refused_file_changes_nothing(files: Any, tmp_path: Path) -> None:
    model = create_model("deeplabv3_mobilenet_v2", num_classes=2, **SMALL)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    path = changed(files["model"][0], tmp_path / "x.safetensors", normalization__std=[1, 1, 0])
    with pytest.raises(WeightsError):
        load_weights(model, path)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
