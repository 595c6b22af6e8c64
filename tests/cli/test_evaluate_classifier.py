from __future__ import annotations

import json
from pathlib import Path

import pytest

from segmnv2.cli import main
from segmnv2.models.classifier import create_classifier, save_classifier
from segmnv2.models.model_file import save_model
from segmnv2.models.zoo import create_model
from tests.image_folders import COLORS, write_image_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("classifier")
    write_image_folder(root / "images", images=2)
    names = sorted(COLORS)
    save_classifier(root / "c.safetensors", create_classifier("mobilenet_v2", width=0.35, class_names=names))
    save_classifier(root / "other.safetensors", create_classifier("mobilenet_v2", width=0.35, num_classes=3))
    save_model(root / "voc.safetensors", create_model("deeplabv3_mobilenet_v2", width=0.35))
    return root


def words(folder: Path, *options: str, weights: str = "c") -> list[str]:
    return ["evaluate", str(folder / f"{weights}.safetensors"), "--dataset", "image-folder", *options]


def test_it_prints_a_table_and_writes_json(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r.json"
    assert main(words(folder, "--root", str(folder / "images"), "--size", "64", "--json", str(out))) == 0
    printed = capsys.readouterr().out
    assert "| red |" in printed
    assert "6 images; there are no more than 5 classes, so top-5 is 100 %" in printed
    values = json.loads(out.read_text())
    assert values["top5"] == 100
    assert values["top1"] in [pytest.approx(100 * right / 6) for right in range(7)]
    assert (values["images"], values["protocol"]["crop_size"]) == (6, 64)
    assert {each["images"] for each in values["classes"].values()} == {2}


def test_a_limit_is_distributed_over_the_classes(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    options = ["--root", str(folder / "images"), "--size", "32", "--limit", "3", "--json", str(out)]
    assert main(words(folder, *options)) == 0
    assert [each["images"] for each in json.loads(out.read_text())["classes"].values()] == [1, 1, 1]


@pytest.mark.parametrize(
    ("options", "weights", "parts"),
    [
        ([], "c", ["--root is missing"]),
        (["--root", "nowhere"], "c", ["nowhere", "no such file or folder"]),
        (["--root", "IMAGES", "--flip", "--split", "val"], "c", ["--split, --flip", "no such option"]),
        (["--root", "IMAGES", "--size", "native"], "c", ["native", "give pixels"]),
        (["--root", "IMAGES", "--size", "0"], "c", ["crop_size 0"]),
        (["--root", "IMAGES", "--limit", "0"], "c", ["limit 0"]),
        (
            ["--root", "IMAGES"],
            "other",
            ["other classes: 3 in the data set", "class 0 is 'blue' in the data set, '0' in the model"],
        ),
        (["--root", "IMAGES"], "voc", ["holds a model, not a classifier"]),
    ],
)
def test_wrong_options_are_reported(
    folder: Path, options: list[str], weights: str, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(folder / "images") if option == "IMAGES" else option for option in options]
    assert main(words(folder, *given, weights=weights)) == 2
    message = capsys.readouterr().err
    for part in parts:
        assert part in message


def test_other_commands_for_a_classifier_are_refused_with_the_remedy(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(folder / "c.safetensors"), "--dataset", "shapes"]) == 2
    assert "evaluated with --dataset image-folder" in capsys.readouterr().err
