from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> object:
    """The scripts as Python finds them when it runs one."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def load(name: str) -> ModuleType:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


def run_alone(script: str, *words: str) -> str:
    """Run a script as a user does, and return what it prints: its contenders are processes of this one no more."""
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_training_steps_are_compared_on_the_same_batches(
    load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--crop", "65", "--batch", "2", "--steps", "1", "--warm-up", "0", "--device", "cpu"]
    path = tmp_path / "table.json"
    out = run_alone("training_step", *words, "--json", str(path))
    rows = json.loads(path.read_text())["rows"]
    assert [row["name"] for row in rows] == ["segmnv2", "transformers", "smp"]
    for row in rows:
        assert row["images_per_second"] > 0
        assert f"| {row['name']} |" in out
    assert "segmnv2 to transformers" in out
    assert "segmnv2 to smp" in out
    assert load("training_step").main([*words, "--bf16"]) == 2
    assert "--bf16: CPUs compute wrong gradients" in capsys.readouterr().err


def test_what_a_contender_cannot_do_is_told_as_here(load, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load("training_step").main(["--root", str(tmp_path / "gone"), "--device", "cpu"]) == 2
    assert "gone" in capsys.readouterr().err


def test_the_peers_get_the_same_pixels_in_their_own_form(load) -> None:
    import torch

    contenders, script = load("contenders"), load("training_step")
    (batch,) = script.read_batches(None, 65, 2, 1)
    cpu = torch.device("cpu")
    same = contenders.Transformers(cpu, 65).prepare(batch)
    cut = contenders.Smp(cpu).prepare(batch)
    assert torch.equal(same["pixels"], batch["pixels"])
    assert torch.equal(cut["mask"], batch["mask"][:, :64, :64])
    assert batch["pixels"].is_contiguous(memory_format=torch.channels_last)
    assert same["pixels"].is_contiguous()
    assert cut["pixels"].is_contiguous()


def test_the_loader_is_compared_on_the_same_files(load, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.json"
    words = ["--crop", "33", "--batch", "2", "--batches", "2"]
    assert load("data_pipeline").main([*words, "--json", str(path)]) == 0
    assert [row["name"] for row in json.loads(path.read_text())["rows"]] == ["segmnv2", "torchvision v2"]
    assert "times as fast" in capsys.readouterr().out


@pytest.mark.slow
def test_int8_is_judged_on_images_that_it_was_not_chosen_on(
    load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import segmnv2

    load("data_pipeline").write_pictures(tmp_path)
    lists = tmp_path / "ImageSets" / "Segmentation"
    names = (lists / "train.txt").read_text().split()
    (lists / "train.txt").write_text("\n".join(names[:4]))
    (lists / "val.txt").write_text("\n".join(names[4:13]))
    weights, path = tmp_path / "model.safetensors", tmp_path / "table.json"
    segmnv2.save_model(weights, segmnv2.create_model("deeplabv3_mobilenet_v2", width=0.35))
    words = ["--weights", str(weights), "--root", str(tmp_path), "--backends", "openvino", "--size", "65"]
    script = load("int8_accuracy")
    assert script.main([*words, "--rounds", "2", "--calibration", "2", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert [(row["part"], row["images"]) for row in report["accuracy"]] == [("chosen", 3), ("judged", 6)]
    for row in report["accuracy"]:
        assert row["change"]["low"] <= row["change"]["value"] <= row["change"]["high"]
        assert 0 <= row["agreement"] <= 1  # of an untrained network anything may become
    assert report["speed"]["openvino"]["ratio"]["median"] > 0
    assert "| openvino | judged | 6 |" in capsys.readouterr().out
    parts = script.split(segmnv2.datasets.voc.VocSegmentation(tmp_path, "val"))
    assert sorted(parts["chosen"] + parts["judged"]) == list(range(9))


def test_every_set_of_scales_is_compared_with_all_of_them(
    load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import segmnv2

    load("data_pipeline").write_pictures(tmp_path)
    lists = tmp_path / "ImageSets" / "Segmentation"
    (lists / "val.txt").write_text((lists / "train.txt").read_text())
    weights, path = tmp_path / "model.safetensors", tmp_path / "table.json"
    segmnv2.save_model(weights, segmnv2.create_model("deeplabv3_mobilenet_v2", width=0.35))
    words = ["--weights", str(weights), "--root", str(tmp_path), "--size", "33", "--images", "2"]
    assert load("multi_scale").main([*words, "--engines", "torch", "--json", str(path)]) == 0
    rows = {row["scales"]: row for row in json.loads(path.read_text())["rows"]}
    assert rows["six, flips"]["agreement"] > 0.999
    assert len(rows) == 8
    assert "| torch float32 | six, flips |" in capsys.readouterr().out


@pytest.mark.slow
def test_folders_are_labeled_in_all_ways_on_the_same_files(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    words = ["--count", "2", "--rounds", "1", "--overlays", "--threads", "1", "--streams", "2"]
    out = run_alone("folder_throughput", *words, "--json", str(path))
    rows = json.loads(path.read_text())["rows"]
    assert [row["name"] for row in rows] == ["one by one", "pipelined", "2 streams", "transformers"]
    assert "times as fast as one by one" in out


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        ("folder_throughput", ["--count", "0"], "--count 0"),
        ("folder_throughput", ["--batches", "0"], "batch: 0"),
        ("folder_throughput", ["--streams", "0"], "streams: 0"),
        ("folder_throughput", ["--images", "nowhere"], "nowhere"),
        ("folder_throughput", ["--weights", "nowhere"], "nowhere"),
        ("training_step", ["--steps", "0"], "--steps 0"),
        ("training_step", ["--device", "tpu"], "--device tpu"),
        ("training_step", ["--root", "nowhere"], "nowhere: does not exist"),
        ("data_pipeline", ["--batches", "-1"], "--batches -1"),
        ("data_pipeline", ["--root", "nowhere"], "nowhere: does not exist"),
        ("multi_scale", ["--weights", "a", "--root", "b", "--images", "0"], "--images 0"),
        ("multi_scale", ["--weights", "a", "--root", "b", "--engines", "tpu"], "backend: 'tpu' is not known"),
        ("int8_accuracy", ["--weights", "a", "--root", "b", "--rounds", "0"], "--rounds 0"),
        ("int8_accuracy", ["--weights", "a", "--root", "b", "--backends", "tpu"], "backend: 'tpu' is not known"),
    ],
)
def test_a_fault_is_one_message(
    load, script: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load(script).main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {message}")
