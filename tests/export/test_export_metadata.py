from __future__ import annotations

import copy
import dataclasses
import json
from random import Random

import pytest
from hypothesis import given

from segmnv2.errors import WeightsError
from segmnv2.export.create import build_export_card
from segmnv2.export.export_metadata import ExportMetadata, describe_export
from segmnv2.files.checksum import file_sha256
from segmnv2.labels import LabelSet
from segmnv2.models.pixels import Normalization
from tests.damage import check_lawful, damage_json, many, randoms


@pytest.fixture
def metadata(balanced_model, weights) -> ExportMetadata:
    return describe_export(balanced_model, "onnx", weights=weights, precision="int8", size=(75, 100), raw_logits=True)


def test_metadata_is_read_back_from_json_and_from_entries(metadata):
    assert ExportMetadata.from_dict(json.loads(json.dumps(metadata.to_dict())), "file") == metadata
    entries = {**metadata.to_entries(), "of another program": "kept out"}
    assert ExportMetadata.from_entries(entries, "file") == metadata


def test_the_color_of_ignored_pixels_is_read_back(metadata):
    labels = dataclasses.replace(metadata.labels, ignore_color=(9, 9, 9), label_defaults=("ignore_index",))
    colored = dataclasses.replace(metadata, labels=labels)
    for read in (
        ExportMetadata.from_dict(colored.to_dict(), "file"),
        ExportMetadata.from_entries(colored.to_entries(), "file"),
    ):
        assert read == colored
        assert read.labels.label_defaults == ("ignore_index",)


def test_padding_is_the_color_nearest_to_the_mean(balanced_model):
    model = copy.deepcopy(balanced_model)
    model.set_normalization(Normalization((-1.0, 116.0, 300.0), (60.0, 60.0, 60.0)))
    metadata = describe_export(model, "onnx")
    assert metadata.padding == (0.0, 116.0, 255.0)
    assert ExportMetadata.from_dict(metadata.to_dict(), "file") == metadata


def test_provenance_names_the_weights_and_their_checksum(metadata, weights):
    origin = {"weights": "small.safetensors", "sha256": file_sha256(weights), "origin": {"source": "a test"}}
    assert metadata.provenance == origin


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": None}, "has no metadata of segmnv2"),
        ({"format_version": 9}, "have version 9, this segmnv2 reads 1"),
        ({"output": "boxes"}, "damaged .*boxes"),
        ({"size": [1]}, "damaged"),
        ({"size": [10**12, 5]}, "damaged .size.0: .*less than or equal to"),
        ({"padding": [0, 0, "x"]}, "damaged .padding.2: .*valid number, found 'x'"),
        ({"names": 5}, "damaged .names: .*valid list"),
        ({"precision": "int3"}, "damaged .*int3"),
        ({"palette": []}, "damaged .*colors"),
        ({"provenance": None}, "damaged"),
    ],
)
def test_invalid_metadata_is_refused(metadata, change, message):
    values = {**metadata.to_dict(), **change}
    if change.get("format_version", 1) is None:
        del values["format_version"]
    with pytest.raises(WeightsError, match=f"file: .*{message}"):
        ExportMetadata.from_dict(values, "file")


def test_the_card_explains_larger_and_smaller_images(metadata, tmp_path):
    fixed, dynamic = (
        build_export_card(tmp_path / "small.onnx", dataclasses.replace(metadata, size=size), None)
        for size in ((75, 100), None)
    )
    assert "`segmnv2 infer --size native`" in dynamic
    assert "infer" not in fixed
    assert "pad them at the right and bottom" in fixed


def test_the_card_escapes_a_bar_in_a_name(metadata, tmp_path):
    labels = LabelSet(("bare", "tree|shrub"), ((0, 0, 0), (9, 9, 9)))
    text = build_export_card(tmp_path / "a.onnx", dataclasses.replace(metadata, labels=labels), None)
    assert "| 1 | tree\\|shrub | #090909 |" in text


def test_the_card_has_inputs_outputs_classes_and_origin(metadata, tmp_path):
    text = build_export_card(tmp_path / "small.onnx", metadata, None)
    for part in (
        "# small.onnx",
        "uint8 (1, 75, 100, 3), RGB, 0..255",
        "float32 (1, 5, rows, columns)",
        "| 4 | class_4 | #000080 |",
        "not compared",
        metadata.provenance["sha256"],
    ):
        assert part in text


@many
@given(randoms)
def test_reading_metadata_is_lawful(metadata: ExportMetadata, random: Random) -> None:
    check_lawful(lambda: ExportMetadata.from_json(damage_json(metadata.to_dict(), random), "file"))
    entries = metadata.to_entries()
    key = random.choice(list(entries))
    entries[key] = damage_json(json.loads(entries[key]), random)
    check_lawful(lambda: ExportMetadata.from_entries(entries, "file"))
