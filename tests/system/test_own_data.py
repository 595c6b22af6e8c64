from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from segmnv2.cli import main
from segmnv2.data.mask_file import mask_ids
from segmnv2.data.raw_mask import RawMask
from segmnv2.datasets.shapes import Shapes
from segmnv2.labels import VOC_LABELS, LabelSet
from segmnv2.models.model_file import load_model, save_model
from segmnv2.models.zoo import create_model
from tests.dataset_files import open_folder

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = "configs/folder_mobilenet_v2.yaml"
IMAGES = 10
SHORT = {
    "check-data": "--workers 1",
    "train": "-o steps=2 -o data.crop_size=49 -o data.batch_size=2 -o data.num_workers=0 -o model.width=0.35 "
    "-o validation.size=65 -o log.every=1",
    "evaluate": "--size 65",
    "infer": "--size 65",
}
"""Command -> options that make it fast."""


def fenced(language: str) -> list[str]:
    page = (REPOSITORY / "docs" / "own_data.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def commands() -> dict[str, list[str]]:
    """Return subcommand -> its command line on the page, without the program's name."""
    lines = [shlex.split(line) for block in fenced("sh") for line in block.splitlines()]
    assert all(words[0] == "segmnv2" for words in lines)
    return {words[1]: words[1:] for words in lines}


def contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(contains(whole.get(key), value) for key, value in part.items())
    return bool(whole == part)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write weights, masks of ids and of colors, and images larger than the page's size to the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(REPOSITORY / "configs", "configs")
    for folder in ("originals/images", "originals/masks", "data/own", "new_images", "weights"):
        Path(folder).mkdir(parents=True)
    labels = yaml.safe_load(fenced("yaml")[0])
    palette = np.array(labels["palette"], np.uint8)
    shapes = Shapes(IMAGES, (64, 80), seed=1)
    for index in range(IMAGES):
        sample = shapes[index]
        image = Image.fromarray(sample.image).resize((640, 512))
        ids = sample.mask % 3  # 255 becomes background
        mask = Image.fromarray(palette[ids] if index % 2 else ids).resize((640, 512), Image.Resampling.NEAREST)
        exif = Image.Exif()
        if index < 2:  # stored turned, with an EXIF orientation
            image, exif[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6
        image.save(f"originals/images/beet_{index}.{'tif' if index == 1 else 'jpg'}", exif=exif)
        mask.save(f"originals/masks/beet_{index}.png")
    shutil.copy("originals/images/beet_0.jpg", "new_images/new.jpg")
    Path("data/own/labels.yaml").write_text(fenced("yaml")[0])
    start = Path(commands()["import"][commands()["import"].index("--out") + 1])
    save_model(start, create_model("deeplabv3_mobilenet_v2", labels=VOC_LABELS, width=0.35))
    return tmp_path


def test_the_commands_of_the_page_lead_from_images_to_results(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, block in enumerate(fenced("python")):
        exec(compile(block, f"own_data.md, Python block {number}", "exec"), {})
    dataset = open_folder("data/own")
    assert len(dataset) == IMAGES
    assert dataset[0].image.shape[:2] == dataset[1].image.shape[:2] == (410, 513)
    turned = Image.open("data/own/images/beet_0.jpg")
    assert (turned.size, turned.getexif()[0x0112]) == ((410, 513), 6), "the check of step 4 needs it"
    assert len(open_folder("data/own", "train")) == 8
    assert len(open_folder("data/own", "val")) == 2

    lines = commands()
    assert list(lines) == ["check-data", "import", "train", "evaluate", "infer"]
    assert lines["train"][1] == CONFIG
    for command in ("check-data", "train", "evaluate", "infer"):
        assert main([*lines[command], *SHORT[command].split()]) == 0, capsys.readouterr().err
    assert load_model("runs/folder_mobilenet_v2/best.safetensors").labels == dataset.labels
    assert "| weed |" in capsys.readouterr().out
    assert Path("results/masks/new.png").is_file()
    assert Path("results/overlays/new.jpg").is_file()


def test_the_labels_on_the_page_are_correct() -> None:
    page = (REPOSITORY / "docs" / "own_data.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^    names: .*\n(?:    .*\n)*", page, re.MULTILINE)
    binary, ignoring = (LabelSet.from_dict(yaml.safe_load(block)) for block in blocks)
    assert mask_ids(RawMask(np.array([[0, 255]], np.uint8), "PNG"), binary).tolist() == [[0, 1]]
    assert (ignoring.num_classes, ignoring.ignore_index, ignoring.void_color) == (3, 3, (128, 128, 128))
    assert mask_ids(RawMask(np.array([[0, 3]], np.uint8), "PNG"), ignoring).tolist() == [[0, 3]]


def test_the_page_quotes_the_config() -> None:
    whole = yaml.safe_load((REPOSITORY / CONFIG).read_text(encoding="utf-8"))
    assert contains(whole, yaml.safe_load(fenced("yaml")[1]))
    assert commands()["import"][-1] == whole["model"]["weights"]


def test_the_page_is_linked() -> None:
    for file in ("README.md", "data/README.md"):
        assert "docs/own_data.md" in (REPOSITORY / file).read_text(encoding="utf-8")
