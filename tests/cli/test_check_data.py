from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from segmnv2.cli import main
from tests.checks.sound import TWO, all_masks, ids, save_gray, two_classes, write_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "own", TWO, recode=two_classes)


def blacken(root: Path) -> None:
    for path in all_masks(root):
        save_gray(path, ids(root, int(path.stem)) * 255)


def test_data_without_faults_exits_with_0(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-data", str(root), "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert out.rstrip().endswith("11 pairs read: no faults found")
    assert "class_weights:\n    ground: " in out


def test_errors_are_reported_with_exit_code_1(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blacken(root)
    assert main(["check-data", str(root), "--workers", "1", "--examples", "2"]) == 1
    captured = capsys.readouterr()
    assert "binary-masks" in captured.out
    assert "and 9 more" in captured.out
    assert captured.out.rstrip().endswith("11 errors, 0 warnings; fix the errors before training")
    assert captured.err == ""


def test_warnings_alone_exit_with_0(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "images" / "3.png").write_bytes((root / "images" / "2.png").read_bytes())
    assert main(["check-data", str(root), "--workers", "1"]) == 0
    assert "0 errors, 1 warning" in capsys.readouterr().out


def test_a_fixed_copy_has_no_errors(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blacken(root)
    out = tmp_path / "fixed"
    assert main(["check-data", str(root), "--workers", "1", "--fix", str(out)]) == 1
    assert "repaired 11" in capsys.readouterr().out
    assert main(["check-data", str(out), "--workers", "1"]) == 0
    assert main(["check-data", str(root), "--workers", "1", "--fix", str(out)]) == 2
    assert "exists and is not empty" in capsys.readouterr().err


def test_only_json_is_on_standard_output(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blacken(root)
    assert main(["check-data", str(root), "--workers", "1", "--json", "-"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["kinds"] == {"binary-masks": 11}
    assert "binary-masks" in captured.err


def test_json_and_page_are_written(root: Path, tmp_path: Path) -> None:
    json_file, page = tmp_path / "a" / "r.json", tmp_path / "a" / "r.html"
    assert main(["check-data", str(root), "--workers", "1", "--json", str(json_file), "--html", str(page)]) == 0
    assert json.loads(json_file.read_text())["errors"] == 0
    assert "no faults found" in page.read_text()
    assert sorted(path.name for path in page.parent.glob("[!.]*")) == ["r.html", "r.json"]


def test_names_that_are_not_utf_8_are_written_escaped(root: Path, tmp_path: Path) -> None:
    (root / "images" / os.fsdecode(b"caf\xe9.heic")).write_bytes(b"x")
    json_file, page = tmp_path / "r.json", tmp_path / "r.html"
    assert main(["check-data", str(root), "--workers", "1", "--json", str(json_file), "--html", str(page)]) == 1
    assert json.loads(json_file.read_text())["findings"][0]["file"].endswith("caf\\udce9.heic")
    assert "caf\\udce9.heic" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: there is no such file or folder"),
        (["own", "-o", "steps=1"], "own is a folder"),
        (["own", "--workers", "0"], "workers: 0"),
        (["own", "--limit", "0"], "limit: 0"),
        (["own", "--limit", "1", "--fix", "new"], "leave out --limit"),
        (["own", "--fix", "own/masks/new"], "is inside the data set's images or masks"),
        (["own", "--split", "val", "--split", "val"], "given twice"),
        (["config.yaml"], "unknown key"),
        (["own", "--json", "own"], "is a folder"),
    ],
)
def test_bad_input_exits_with_2(
    root: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root.parent)
    Path("config.yaml").write_text("name: x\nunknown: 1\n")
    assert main(["check-data", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not Path("new").exists()


def test_a_missing_label_file_is_reported(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "labels.yaml").unlink()
    assert main(["check-data", str(root)]) == 2
    assert "names: [background" in capsys.readouterr().err


def test_the_tool_runs_the_command(root: Path) -> None:
    PIL.Image.fromarray(np.full((48, 64), 9, np.uint8)).save(root / "masks" / "0.png")
    tool = Path(__file__).resolve().parents[2] / "tools" / "check_data.py"
    done = subprocess.run(
        [sys.executable, str(tool), str(root), "--workers", "1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "ids-out-of-range" in done.stdout
