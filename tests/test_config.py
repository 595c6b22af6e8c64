from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given

from segmnv2.config.classification_schema import ClassificationExperiment
from segmnv2.config.reading import (
    list_configs,
    load_any_experiment,
    load_experiment,
    parse_any_experiment,
    parse_experiment,
    write_experiment,
)
from segmnv2.config.segmentation_schema import Experiment
from segmnv2.errors import ConfigError
from segmnv2.files.yaml_documents import read_yaml
from segmnv2.labels import LabelSet
from tests.damage import VALUES, check_lawful, damage_json, many, randoms

MINIMAL: dict[str, Any] = {
    "name": "tiny",
    "steps": 10,
    "data": {
        "train": {"kind": "shapes", "length": 8},
        "val": {"kind": "voc", "root": "data/VOCdevkit", "split": "val"},
    },
}


def faults_of(values: Any, *overrides: str) -> list[str]:
    """Return the lines of the one message that refuses the values."""
    with pytest.raises(ConfigError) as caught:
        parse_experiment(values, overrides, source="x.yaml")
    title, *faults = str(caught.value).split("\n  ")
    assert title.startswith("x.yaml")
    assert title.endswith("1 fault" if len(faults) == 1 else f"{len(faults)} faults")
    return faults


def edited(path: str, value: Any) -> dict[str, Any]:
    values = yaml.safe_load(yaml.safe_dump(MINIMAL))
    *sections, last = path.split(".")
    place = values
    for section in sections:
        place = place.setdefault(section, {})
    place[last] = value
    return values


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("optimizer.lr=1e-2", 0.01),
        ("optimizer.lr=.5", 0.5),
        ("optimizer.weight_decay=0", 0),
        ("data.scales=[1.0, 2]", [1.0, 2]),
        ("data.train={kind: shapes, length: 3}", {"kind": "shapes", "length": 3}),
        ("validation.size=native", "native"),
        ("validation.limit=null", None),
        ("channels_last=false", False),
        ("model.weights=a=b.safetensors", "a=b.safetensors"),
        ("precision=bf16-mixed", "bf16-mixed"),
    ],
)
def test_an_override_equals_an_edit_of_the_file(override: str, value: Any) -> None:
    assert parse_experiment(MINIMAL, [override]) == parse_experiment(edited(override.partition("=")[0], value))


def test_the_later_override_wins_and_the_values_given_stay_as_they_were() -> None:
    before = yaml.safe_dump(MINIMAL)
    assert parse_experiment(MINIMAL, ["steps=3", "steps=4"]).steps == 4
    assert yaml.safe_dump(MINIMAL) == before


def test_an_override_changes_one_of_two_sections_that_are_one_object() -> None:
    shapes = {"kind": "shapes", "length": 3}
    data = parse_experiment(edited("data", {"train": shapes, "val": shapes}), ["data.val.length=5"]).data
    assert (data.train.model_dump()["length"], data.val.model_dump()["length"]) == (3, 5)


def test_a_path_may_begin_with_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert parse_experiment(MINIMAL, ["output=~/runs/x"]).output_folder == Path("/home/someone/runs/x")


def test_a_written_experiment_reads_back_the_same(tmp_path: Path) -> None:
    experiment = parse_experiment(MINIMAL, ["optimizer.weight_decay=1e-7", "precision=16-mixed"])
    write_experiment(tmp_path / "config.yaml", experiment)
    assert load_experiment(tmp_path / "config.yaml") == experiment


def test_an_experiment_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_experiment(MINIMAL).steps = 3


def test_defaults_are_the_papers() -> None:
    experiment = parse_experiment(MINIMAL)
    optimizer = experiment.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay, optimizer.power) == (0.007, 0.9, 4e-5, 0.9)
    assert (experiment.data.crop_size, experiment.data.batch_size, experiment.validation.size) == (513, 16, 513)
    assert experiment.output_folder == Path("runs", "tiny")


def test_all_faults_are_named_at_once() -> None:
    values = edited("model", {"output_stride": 12, "widht": 1.0})
    values["data"]["batch_size"] = 0
    del values["steps"]
    faults = faults_of(values, "optimizer.lr=abc")
    assert len(faults) == 5
    joined = "\n".join(faults)
    for part in (
        "model.output_stride: 12 is not possible; it must be 8, 16 or 32",
        "model.widht: unknown key; did you mean 'width'?",
        "data.batch_size: 0",
        "steps: is missing",
        "optimizer.lr: 'abc'",
    ):
        assert part in joined


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("lr", 0.1, "did you mean 'optimizer.lr'?"),
        ("data.train.lenght", 3, "did you mean 'length'?"),
        (
            "data.val.kind",
            "vocc",
            "'vocc' is not possible; give 'voc' or 'cityscapes' or 'ade20k' or 'folder' or 'coco_voc' or 'shapes'",
        ),
        ("data.val", {"root": "x"}, "data.val.kind: is missing"),
        ("data.scales", [], "data.scales"),
        ("data.scales", [1.0, -1], "data.scales.1: -1"),
        ("model", 3, "model: 3 is not possible; give a mapping"),
        ("model.name", "resnet", "available are deeplabv3_mobilenet_v1, "),
        ("model.width", "1.0", "model.width: '1.0'"),
        ("model.backbone", {"depth": 3}, "deeplabv3_mobilenet_v2 has no option depth; it has width,"),
        ("model", {"name": "deeplabv3_resnet101", "width": 0.5}, "has no option width; it has stem,"),
        ("model", {"name": "deeplabv3_timm"}, "requires model; give it in model.backbone"),
        ("steps", True, "steps: True"),
        ("steps", 1.5, "steps: 1.5"),
        ("optimizer.lr", float("nan"), "optimizer.lr: nan"),
        ("validation.size", 3, "greater than or equal to 17 or 'native'"),
        ("precision", 16, "precision: 16 is not possible; it must be 32, 'bf16-mixed' or '16-mixed'"),
        ("name", "../up", "name: '../up'"),
        ("model", {"weights": "a", "backbone_weights": "b"}, "set one of them to null"),
        ("model", {"width": 0.5, "backbone": {"width": 1.0}}, "width is given both here and in backbone"),
        ("output", "", "output: '' is not possible; it is empty"),
    ],
)
def test_a_fault_names_key_value_and_what_is_allowed(path: str, value: Any, expected: str) -> None:
    (fault,) = faults_of(edited(path, value))
    assert expected in fault


@pytest.mark.parametrize("override", ["steps", "=3", "a..b=3", "name.inner=3", "steps=[1,"])
def test_a_malformed_override_is_named(override: str) -> None:
    assert f"-o {override}: " in faults_of(MINIMAL, override)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\nsteps: 1\nname: b\n", "line 3, column 1: key 'name' is given twice"),
        ("data: {train: {kind: voc, kind: shapes}}", "key 'kind' is given twice"),
        ("name: [", "is not valid YAML"),
        ("", "holds nothing"),
        ("- 1\n", "holds a list"),
        ("name: !!python/object/apply:os.getcwd []", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_experiment_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_experiment(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / "x.yaml"):
        with pytest.raises(ConfigError, match=path.name):
            load_experiment(path)


def test_merge_keys_of_yaml_still_work(tmp_path: Path) -> None:
    text = yaml.safe_dump({k: v for k, v in MINIMAL.items() if k != "data"})
    text += "data:\n  train: &set {kind: shapes, length: 8}\n  val: {<<: *set, seed: 1}\n"
    (tmp_path / "x.yaml").write_text(text)
    experiment = load_experiment(tmp_path / "x.yaml")
    assert isinstance(experiment, Experiment)
    assert experiment.data.val.model_dump() == {"kind": "shapes", "length": 8, "size": 161, "seed": 1}


CLASSIFIER: dict[str, Any] = {
    "name": "c",
    "task": "classification",
    "data": {"train": {"kind": "image_folder", "root": "a"}, "val": {"kind": "image_folder", "root": "b"}},
    "epochs": 3,
}


def test_a_task_decides_which_keys_there_are() -> None:
    experiment = parse_any_experiment(CLASSIFIER)
    assert isinstance(experiment, ClassificationExperiment)
    assert parse_any_experiment(experiment.to_dict()) == experiment
    with pytest.raises(ConfigError, match="task: 'depth' is not possible; give 'segmentation' or 'classification' or"):
        parse_any_experiment({**CLASSIFIER, "task": "depth"})
    with pytest.raises(ConfigError, match="its task is classification, but this command is for segmentation"):
        parse_experiment(CLASSIFIER)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs=0", "epochs: 0 is not possible"),
        ("model.name=vgg", "model.name: 'vgg' is not possible; available are mobilenet_v1"),
        ("model.backbone={depth: 3}", "the backbone of mobilenet_v2 has no option depth"),
        ("data.area=[1.0, 0.5]", "data.area: .*the first number is larger than the second"),
        ("data.train.kind=voc", "data.train.kind: 'voc' is not possible"),
        ("log.pictures=3", "log.pictures: unknown key"),
        ("optimizer.power=0.9", "optimizer.power: unknown key; .*allowed here are lr"),
        ("steps=30", "steps: unknown key"),
    ],
)
def test_faults_of_a_classifiers_experiment_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_any_experiment(CLASSIFIER, [override])


@many
@given(random=randoms)
def test_any_experiment_and_override_is_lawful(random: Random, tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    tree = read_yaml(random.choice(list(list_configs().values())), "")
    path.write_bytes(damage_json(tree, random).encode(errors="replace"))
    check_lawful(lambda: load_any_experiment(path))
    value = damage_json(random.choice(VALUES), random)
    key = random.choice(("seed", "model", "model.backbone", "model.width", "data.train", "optimizer.lr", "a.b", "task"))
    check_lawful(lambda: parse_any_experiment(tree, [f"{key}={value}"]))


@many
@given(random=randoms)
def test_any_label_file_is_lawful(random: Random, tmp_path: Path) -> None:
    path = tmp_path / "labels.yaml"
    tree = {"names": ["a", "b"], "palette": [[0, 0, 0], [1, 2, 3]], "ignore_index": 255, "ignore_color": [9, 9, 9]}
    path.write_bytes(damage_json(tree, random).encode(errors="replace"))
    check_lawful(lambda: LabelSet.from_yaml(path))
