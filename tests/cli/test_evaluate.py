from __future__ import annotations

import json
from pathlib import Path

import PIL.Image
import pytest

from segmnv2.cli import main
from segmnv2.datasets.shapes import SHAPES_LABELS, Shapes
from segmnv2.errors import counted
from segmnv2.labels import VOC_LABELS, LabelSet
from segmnv2.models.model_file import save_model
from segmnv2.models.zoo import create_model
from tests.datasets.test_coco_voc import CAT, Coco, box
from tests.voc_layout import write_voc_layout


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, with two pairs, a list `one` of one of them, and an untrained model."""
    monkeypatch.chdir(tmp_path)
    for name in ("own/images", "own/masks", "own/splits"):
        Path(name).mkdir(parents=True)
    for stem in ("a", "b"):
        PIL.Image.new("RGB", (40, 30)).save(f"own/images/{stem}.jpg")
        PIL.Image.new("L", (40, 30)).save(f"own/masks/{stem}.png")
    Path("own/labels.yaml").write_text("names: [ground, crop]\n")
    Path("own/splits/one.txt").write_text("b\n")
    save("own.safetensors", LabelSet.from_yaml("own/labels.yaml"))
    return tmp_path


def save(path: str, labels: LabelSet) -> None:
    save_model(path, create_model("deeplabv3_mobilenet_v2", width=0.35, labels=labels))


@pytest.mark.parametrize(("split", "images"), [([], 2), (["--split", "one"], 1)])
def test_a_folder_is_evaluated_completely_or_by_a_split(
    home: Path, split: list[str], images: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "own.safetensors", "--dataset", "folder", "--root", "own", "--size", "49", *split]) == 0
    assert counted(images, "image") in capsys.readouterr().out


def test_the_split_of_voc_is_val_by_default(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_voc_layout(Shapes(3, (40, 30)), "devkit", "val")
    save("shapes.safetensors", SHAPES_LABELS)
    assert main(["evaluate", "shapes.safetensors", "--dataset", "voc", "--root", "devkit", "--size", "49"]) == 0
    printed = capsys.readouterr()
    assert "3 images" in printed.out
    assert "note: the masks' ids are read as the model's 5 classes" in printed.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "--root is missing; --dataset folder needs the folder that holds images and masks"),
        (["--root", "none"], "--root none: there is no such file or folder"),
        (["--root", "own", "--split", "val"], "the splits present are: one"),
    ],
)
def test_wrong_options_are_reported(
    home: Path, arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "own.safetensors", "--dataset", "folder", *arguments]) == 2
    assert part in capsys.readouterr().err


def test_classes_in_another_order_are_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("own/labels.yaml").write_text("names: [crop, ground]\n")
    assert main(["evaluate", "own.safetensors", "--dataset", "folder", "--root", "own"]) == 2
    assert "the data set has the same classes in another order" in capsys.readouterr().err


def test_vocs_classes_in_another_order_are_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = VOC_LABELS.names
    save("voc.safetensors", LabelSet((*names[:19], names[20], names[19]), VOC_LABELS.palette))
    write_voc_layout(Shapes(1, (40, 30)), "devkit", "val")
    assert main(["evaluate", "voc.safetensors", "--dataset", "voc", "--root", "devkit"]) == 2
    assert "the data set has the same classes in another order: 21" in capsys.readouterr().err


def test_coco_is_evaluated_as_vocs_classes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("coco").mkdir()
    coco = Coco(Path("coco"), [{"category_id": CAT, "area": 50, "segmentation": box(0, 0, 10, 5)}], [])
    coco.open()
    save("voc.safetensors", VOC_LABELS)
    words = ["--dataset", "coco-voc", "--root", "coco", "--size", "49"]
    assert main(["evaluate", "voc.safetensors", *words, "--json", "r.json"]) == 0
    assert "2 images" in capsys.readouterr().out, "images without VOC's classes count, as in validation"
    result = json.loads(Path("r.json").read_text())
    assert (result["protocol"]["dataset"], result["protocol"]["split"]) == ("coco-voc", "val2017")
    assert main(["evaluate", "own.safetensors", *words]) == 2
    assert "the data set has other classes: 21 in the data set, 2 in the model" in capsys.readouterr().err
