from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from segmnv2.cli import main
from segmnv2.cli.train import _evaluation
from segmnv2.config.reading import load_any_experiment, parse_any_experiment
from segmnv2.models.model_file import read_model_file

CONFIG = """
name: tiny
model: {width: 0.35}
data:
  train: {kind: shapes, length: 4, size: 48, seed: 1}
  val: {kind: shapes, length: 2, size: 48, seed: 2}
  crop_size: 49
  batch_size: 2
  num_workers: 0
steps: 3
validation: {every: 2, size: 49}
device: cpu
log: {every: 1}
"""


def write_folder(root: Path, count: int) -> None:
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 255, (97, 80, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(root / f"images/{index}.png")
        PIL.Image.fromarray(pixels[..., 0] // 64).save(root / f"masks/{index}.png")
    (root / "labels.yaml").write_text("names: [a, b, c, d]\n")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write an experiment to the current folder, and return its file."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(CONFIG)
    return "tiny.yaml"


def test_train_prints_a_summary_and_the_next_commands(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", config, "-o", "steps=2", "-o", "optimizer.lr=1e-2"]) == 0
    out = capsys.readouterr().out
    for part in (
        "model     deeplabv3_mobilenet_v2, width 0.35, output stride 16, 5 classes",
        "parameters, from scratch",
        "4 images (shapes) to train, 2 (shapes) to validate",
        "2 steps of 2 crops of 49x49",
        "step 1/2: loss",
        "learning rate 1.00e-02",
        "step 2/2: validation mIOU",
        "next: segmnv2 infer IMAGES --weights runs/tiny/best.safetensors --out results --size 49\n",
    ):
        assert part in out
    assert Path("runs/tiny/best.safetensors").is_file()


def test_the_next_command_repeats_the_validation(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(Path("own"), 5)
    source, start = "{kind: folder, root: own}", ("-o", "optimizer.lr=0.1", "-o", "model.norm_momentum=1.0")
    protocol = ("-o", "validation.output_stride=8", "-o", "validation.limit=2")
    sources = ("-o", f"data.train={source}", "-o", f"data.val={source}")
    assert main(["train", config, *start, *protocol, *sources]) == 0
    (command,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: segmnv2 evaluate")]
    assert command.endswith("--dataset folder --root own --size 49 --output-stride 8 --limit 2")
    assert main([*command.split()[2:], "--json", "found.json"]) == 0
    assert "note: the model was trained on 5 of the 5 images" in capsys.readouterr().err
    provenance = read_model_file("runs/tiny/best.safetensors")[1]["provenance"]
    assert json.loads(Path("found.json").read_text())["miou"] == pytest.approx(provenance["val_miou"])


@pytest.mark.parametrize(
    ("task", "source", "words"),
    [
        (
            "segmentation",
            "{kind: coco_voc, root: coco, split: val2017, min_pixels: 0}",
            "coco-voc --root coco --split val2017",
        ),
        ("segmentation", "{kind: coco_voc, root: coco, split: val2017}", None),  # min_pixels is 1000 by default
        ("detection", "{kind: coco, root: coco, split: val2017}", "coco --root coco --split val2017"),
        ("detection", "{kind: coco_file, images: a, annotations: b.json}", "coco --root a --annotations b.json"),
        ("classification", "{kind: image_folder, root: a}", "image-folder --root a"),
        ("classification", "{kind: image_folder, root: my photos}", "image-folder --root 'my photos'"),
    ],
)
def test_the_next_command_uses_the_images_of_the_validation(task: str, source: str, words: str | None) -> None:
    length = ["steps=1"] if task == "segmentation" else ["epochs=1"]
    sources = [f"data.train={source}", f"data.val={source}"]
    experiment = parse_any_experiment({"name": "a", "task": task}, [*length, *sources])
    expected = [] if words is None else [f"segmnv2 evaluate best --dataset {words}"]
    assert _evaluation(experiment, Path("best")) == expected


def test_a_second_run_is_refused_resumed_or_replaced(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", config, "--out", "here"]) == 0
    assert main(["train", config, "--out", "here"]) == 2
    assert "here: holds a run already" in capsys.readouterr().err
    assert main(["train", config, "--out", "here", "--resume", "last"]) == 0
    assert "resumed at step 3" in capsys.readouterr().out
    assert main(["train", config, "--out", "here", "--resume", "last", "--overwrite"]) == 2
    assert main(["train", config, "--out", "here", "--overwrite", "-o", "steps=1"]) == 0


def test_a_resumed_run_keeps_its_config_and_reports_the_differences(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", config, "-o", "optimizer.lr=1e-3", "--resume", "auto"]) == 0
    assert "note" not in capsys.readouterr().out
    assert main(["train", config, "--resume", "auto"]) == 0
    out = capsys.readouterr().out
    assert "note: runs/tiny/config.yaml is used; tiny.yaml differs in optimizer.lr (change a value with -o)" in out
    assert "resumed at step 3" in out
    assert main(["train", config, "--resume", "last", "-o", "steps=4"]) == 0
    assert "step 4/4" in capsys.readouterr().out
    assert load_any_experiment("runs/tiny/config.yaml", ["steps=3"]) == load_any_experiment(
        config, ["optimizer.lr=1e-3"]
    )
    assert main(["train", config, "--resume", "last", "-o", "optimizer.lr=1e-2"]) == 2
    assert "optimizer.lr: 0.001 before, 0.01 now" in capsys.readouterr().err


def test_a_folder_with_a_run_of_another_name_is_not_resumed(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", config, "--out", "here", "-o", "steps=1"]) == 0
    Path("other.yaml").write_text(CONFIG.replace("name: tiny", "name: other"))
    assert main(["train", "other.yaml", "--out", "here", "--resume", "auto"]) == 2
    assert "here: holds the run 'tiny' (segmentation), not 'other'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-o", "optimzer.lr=1"], "optimzer: unknown key; did you mean 'optimizer'?"),
        (["-o", "data.train={kind: voc, root: none, split: train}"], "-o data.train.root=PATH"),
        (["-o", "model.backbone_weights=none.safetensors"], "-o model.backbone_weights=PATH"),
    ],
)
def test_wrong_experiments_give_one_message_and_exit_code_2(
    config: str, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", config, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert expected in error
    assert "Traceback" not in error
    assert not Path("runs").exists()


def test_a_missing_file_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "tensorboard/events"])
def test_files_of_other_programs_are_kept(config: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    own = Path("here", name)
    own.parent.mkdir(parents=True)
    own.write_text("written by hand")
    assert main(["train", config, "--out", "here"]) == 2
    assert "exists, and segmnv2 did not write it" in capsys.readouterr().err
    assert own.read_text() == "written by hand"
