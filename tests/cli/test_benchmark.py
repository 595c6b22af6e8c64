from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from segmnv2.cli import main
from segmnv2.models.model_file import save_model
from segmnv2.models.zoo import create_model

CONFIG = """
name: tiny
model: {width: 0.35}
data:
  train: {kind: shapes, length: 4, size: 40, seed: 1}
  val: {kind: shapes, length: 2, size: 40, seed: 2}
  crop_size: 33
  batch_size: 2
  num_workers: 0
steps: 3
device: cpu
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(CONFIG)
    return "tiny.yaml"


def test_data_prints_and_writes_the_same_table(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["benchmark", "data", config, "--batches", "2", "--workers", "1,0", "-o", "data.batch_size=3"]
    assert main([*words, "--json", "new/data.json"]) == 0
    out, table = capsys.readouterr().out, json.loads(Path("new/data.json").read_text())
    assert [row["name"] for row in table["rows"]][-2:] == ["loader, 1 worker", "loader, 0 workers"]
    assert table["environment"]["batch"] == 3
    for row in table["rows"]:
        assert f"| {row['name']} | {row['images_per_second']:.4g} |" in out
    for sentence in table["verdict"]:
        assert sentence in out


def test_train_prints_and_writes_the_same_table(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "train", config, "--steps", "2", "--json", "train.json"]) == 0
    out, table = capsys.readouterr().out, json.loads(Path("train.json").read_text())
    assert len(table["rows"]) == 3
    for row in table["rows"]:
        assert f"| {row['name']} | {row['images_per_second']:.4g} |" in out
    assert sorted(file.name for file in Path().glob("[!.]*")) == ["tiny.yaml", "train.json"]  # no results of training


@pytest.mark.slow
def test_infer_prints_and_writes_the_same_table(tmp_path: Path) -> None:
    """Run in a separate process, as the contenders do, without state of other tests."""
    save_model(tmp_path / "model.safetensors", create_model("deeplabv3_mobilenet_v2"))
    words = ["--output-stride", "16", "--threads", "1", "--engines", "torch", "--peers", "transformers"]
    words += ["--size", "33", "--rounds", "2", "--burst", "1", "--json", "infer.json"]
    run = "from segmnv2.cli import main; raise SystemExit(main())"
    command = [sys.executable, "-c", run, "benchmark", "infer", "model.safetensors", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (table,) = json.loads((tmp_path / "infer.json").read_text())
    assert "## Output stride 16, 1 thread\n" in done.stdout
    assert [row["name"] for row in table["rows"]] == ["transformers", "segmnv2 torch float32"]
    for row in table["rows"]:
        assert f"| {row['name']} | {row['images_per_second']:.4g} |" in done.stdout
        assert len(row["measurements"]) == 2
    assert "times as fast as transformers; peak " in table["rows"][1]["note"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data", "tiny.yaml", "--batches", "0"], "batches 0"),
        (["data", "tiny.yaml", "--workers", "1,two"], "--workers '1,two'"),
        (["data", "tiny.yaml", "--workers", "-1"], "--workers '-1'"),
        (["train", "tiny.yaml", "--steps", "-2"], "steps -2"),
        (["train", "tiny.yaml", "--json", "."], ".: is a folder"),
        (["train", "none.yaml"], "none.yaml"),
        (["infer", "none.safetensors"], "none.safetensors"),
        (["infer", "--images", "nowhere"], "nowhere: is not a folder"),
        (["infer", "--threads", "0"], "--threads '0'"),
        (["infer", "--rounds", "0"], "--rounds 0"),
        (["infer", "--burst", "0"], "--burst 0"),
        (["infer", "--engines", "torch:float16"], "float16 is for GPUs"),
        (["infer", "--peers", "mmseg"], "--peers 'mmseg'"),
        (["infer", "--output-stride", "12", "--engines", "torch"], "12"),
        (["train", "tiny.yaml", "-o", "data.train={kind: voc, root: nowhere, split: train}"], "nowhere"),
    ],
)
def test_wrong_options_give_one_message(
    config: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert "Traceback" not in captured.err
