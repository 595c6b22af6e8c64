from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import segmnv2
from segmnv2.benchmark.data_peers import write_generated
from segmnv2.benchmark.engine_accuracy import ALL, choose_rows
from segmnv2.benchmark.train_peers import PeerStep, StepSetting
from segmnv2.cli import main


def run_alone(*words: str) -> str:
    """Run a command in another process, as a user does, and return its output."""
    run = "from segmnv2.cli import main; raise SystemExit(main())"
    command = [sys.executable, "-c", run, "benchmark", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Generated images in VOC's layout, 4 to train on and 9 others to validate on, and a model."""
    write_generated(tmp_path)
    lists = tmp_path / "ImageSets" / "Segmentation"
    names = (lists / "train.txt").read_text().split()
    (lists / "train.txt").write_text("\n".join(names[:4]))
    (lists / "val.txt").write_text("\n".join(names[4:13]))
    segmnv2.save_model(tmp_path / "model.safetensors", segmnv2.create_model("deeplabv3_mobilenet_v2", width=0.35))
    return tmp_path


@pytest.mark.slow
def test_training_steps_are_compared_on_the_same_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train-peers", "--crop", "65", "--batch", "2", "--steps", "1", "--warm-up", "0", "--device", "cpu"]
    path = tmp_path / "table.json"
    out = run_alone(*words, "--json", str(path))
    rows = json.loads(path.read_text())["rows"]
    assert [row["name"] for row in rows] == ["segmnv2", "transformers", "smp"]
    for row in rows:
        assert row["images_per_second"] > 0
        assert f"| {row['name']} |" in out
    assert "segmnv2 to transformers" in out
    assert "segmnv2 to smp" in out
    assert main(["benchmark", *words, "--bf16"]) == 2
    assert "--bf16: CPUs compute wrong gradients" in capsys.readouterr().err


def test_peers_train_on_the_same_pixels_in_their_own_layout() -> None:
    (batch,) = StepSetting(crop=65, batch=2, steps=1, warm_up=0).batches()
    cpu = torch.device("cpu")
    same, cut = PeerStep("transformers", cpu), PeerStep("smp", cpu)
    unchanged, smaller = same.prepare(batch), cut.prepare(batch)
    assert torch.equal(unchanged["pixels"], batch["pixels"])
    assert torch.equal(smaller["mask"], batch["mask"][:, :64, :64])
    assert batch["pixels"].is_contiguous(memory_format=torch.channels_last)
    assert unchanged["pixels"].is_contiguous()
    assert smaller["pixels"].is_contiguous()
    for step, prepared in ((same, unchanged), (cut, smaller)):
        before = [each.detach().clone() for each in step.peer.parameters()]
        assert step(prepared) > 0
        assert any(not torch.equal(*pair) for pair in zip(before, step.peer.parameters(), strict=True))


def test_the_loader_is_compared_on_the_same_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.json"
    words = ["--crop", "33", "--batch", "2", "--batches", "2", "--json", str(path)]
    assert main(["benchmark", "data-peers", *words]) == 0
    assert [row["name"] for row in json.loads(path.read_text())["rows"]] == ["segmnv2", "torchvision v2"]
    assert "times as fast" in capsys.readouterr().out


@pytest.mark.slow
def test_int8_is_measured_on_other_images_than_it_was_chosen_on(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = data / "table.json"
    words = [str(data / "model.safetensors"), "--root", str(data), "--engines", "openvino:int8", "--size", "65"]
    assert main(["benchmark", "accuracy", *words, "--part", "judged", "--calibration", "2", "--json", str(path)]) == 0
    (row,) = json.loads(path.read_text())["rows"]
    assert (row["engine"], row["images"]) == ("openvino int8", 6)
    assert row["change"]["low"] <= row["change"]["value"] <= row["change"]["high"]
    assert 0 <= row["agreement"] <= 1  # any share is possible with an untrained model
    assert row["seconds"] > 0
    assert "| openvino int8 | 1 | 6 |" in capsys.readouterr().out


def test_both_parts_together_are_all_images() -> None:
    chosen, judged = choose_rows(9, part="chosen"), choose_rows(9, part="judged")
    assert (len(chosen), sorted(chosen + judged)) == (3, choose_rows(9))
    assert len(choose_rows(9, limit=2)) == 2


def test_every_set_of_scales_is_compared_with_the_largest_set(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = data / "table.json"
    words = [str(data / "model.safetensors"), "--root", str(data), "--size", "33", "--limit", "2", "--engines", "torch"]
    assert main(["benchmark", "accuracy", *words, "--all-scales", "--json", str(path)]) == 0
    rows = {row["scales"]: row for row in json.loads(path.read_text())["rows"]}
    assert rows["six, flips"]["agreement"] > 0.999
    assert rows["six, flips"]["change"]["value"] == pytest.approx(0, abs=1e-3)
    assert list(rows) == list(ALL)
    assert "| torch float32 | six, flips | 2 |" in capsys.readouterr().out


@pytest.mark.slow
def test_all_methods_label_the_same_folder(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    words = ["--count", "2", "--rounds", "1", "--overlays", "--threads", "1", "--streams", "2", "--device", "cpu"]
    out = run_alone("folder", *words, "--json", str(path))
    rows = json.loads(path.read_text())["rows"]
    assert [row["name"] for row in rows] == ["one by one", "pipelined", "2 streams", "transformers"]
    assert "times as fast as one by one" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["folder", "--count", "0"], "--count 0"),
        (["folder", "--batches", "0"], "--batches '0'"),
        (["folder", "--streams", "2,two"], "--streams '2,two'"),
        (["folder", "--images", "nowhere"], "nowhere: is not a folder"),
        (["folder", "nowhere"], "nowhere"),
        (["folder", "MODEL"], "transformers has only deeplabv3_mobilenet_v2 of width 1.0"),
        (["train-peers", "--steps", "0"], "--steps 0"),
        (["train-peers", "--device", "tpu"], "device: 'tpu' is not known"),
        (["train-peers", "--root", "nowhere"], "nowhere: does not exist"),
        (["data-peers", "--batches", "-1"], "--batches -1"),
        (["data-peers", "--root", "nowhere"], "nowhere: does not exist"),
        (["accuracy", "MODEL", "--root", "b", "--limit", "0"], "--limit 0"),
        (["accuracy", "MODEL", "--root", "nowhere"], "nowhere: does not exist"),
        (["accuracy", "nowhere", "--root", "b"], "nowhere"),
        (["accuracy", "MODEL", "--root", "b", "--part", "all"], "--part: 'all'"),
        (["accuracy", "MODEL", "--root", "b", "--engines", "tpu"], "backend: 'tpu' is not known"),
    ],
)
def test_an_invalid_option_gives_one_message(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "MODEL" in words:
        words = [str(tmp_path / "model.safetensors") if word == "MODEL" else word for word in words]
        segmnv2.save_model(tmp_path / "model.safetensors", segmnv2.create_model("deeplabv3_mobilenet_v2", width=0.35))
    assert main(["benchmark", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {message}")
