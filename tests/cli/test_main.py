"""Tests of the command line: one message, exit code 2, no traceback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import typer
from typer.core import TyperGroup

import segmnv2
from segmnv2.cli import COMMANDS, HABITS, main, make_app
from segmnv2.errors import SegmnWarning
from segmnv2.models.model_file import load_model, save_model
from segmnv2.models.zoo import create_model
from tests.conversion.test_convert import as_tensorflow, small
from tests.weights.tensor_bundle_writer import write_checkpoint

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = create_model("deeplabv3_mobilenet_v2", width=0.35)
    return save_model(tmp_path_factory.mktemp("w") / "m.safetensors", model)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail because of wrong input, and return its message."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.err.count("error:") <= 1
    return captured.err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in (
        "import",
        "infer",
        "evaluate",
        "report",
        "train",
        "demo",
        "prepare-voc",
        "prepare-coco",
        "check-data",
        "benchmark",
    ):
        assert command in out


def test_an_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", "--nonsense"]) == 2
    assert "--nonsense" in capsys.readouterr().err


def test_import_writes_a_model_and_reports_the_used_tensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(tmp_path / "model.ckpt-3", as_tensorflow(small(num_classes=4)))
    out = tmp_path / "out.safetensors"
    assert main(["import", str(tmp_path / "model.ckpt-3"), "--out", str(out), "--output-stride", "8"]) == 0
    assert load_model(out).output_stride == 8
    assert "tensors used once each" in capsys.readouterr().out


def test_import_reports_a_truncated_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(tmp_path / "model.ckpt", as_tensorflow(small(num_classes=4)))
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])
    message = refused(["import", str(tmp_path / "model.ckpt"), "--out", str(tmp_path / "o.safetensors")], capsys)
    assert str(data) in message
    assert not (tmp_path / "o.safetensors").exists()


def test_evaluate_prints_a_table_and_writes_json(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from segmnv2.datasets.shapes import SHAPES_LABELS

    path = save_model(
        tmp_path / "s.safetensors", create_model("deeplabv3_mobilenet_v2", width=0.35, labels=SHAPES_LABELS)
    )
    out = tmp_path / "r.json"
    arguments = ["evaluate", str(path), "--dataset", "shapes", "--size", "65", "--limit", "2", "--json", str(out)]
    assert main(arguments) == 0
    assert "| circle |" in capsys.readouterr().out
    values = json.loads(out.read_text())
    assert values["images"] == 2
    assert values["protocol"]["dataset"] == "shapes"
    assert values["network"]["file"] == str(path)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--dataset", "voc"], ["--root"]),
        (["--dataset", "voc", "--root", "nowhere"], ["nowhere"]),
        (["--dataset", "shapes"], ["5 in the data set", "21 in the model"]),
        (["--dataset", "shapes", "--size", "5"], ["size", "'native'"]),
        (["--dataset", "shapes", "--output-stride", "12"], ["12", "8, 16, 32"]),
        (["--dataset", "shapes", "--device", "abacus"], ["abacus"]),
    ],
)
def test_wrong_options_of_evaluate_are_reported(
    weights: Path, arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(["evaluate", str(weights), *arguments], capsys)
    for part in parts:
        assert part in message


def test_missing_and_truncated_model_files_are_reported(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "absent.safetensors" in refused(
        ["evaluate", str(tmp_path / "absent.safetensors"), "--dataset", "shapes"], capsys
    )
    short = tmp_path / "short.safetensors"
    short.write_bytes(weights.read_bytes()[:-10])
    assert "truncated" in refused(["evaluate", str(short), "--dataset", "shapes"], capsys)


def test_report_prints_markdown_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "table7"]) == 0
    assert "| MNet V2* |" in capsys.readouterr().out
    assert main(["report", "table7", "--json", "-"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 8
    assert "absent" in refused(["report", "table7", "--evaluation", "absent.json"], capsys)


@pytest.mark.parametrize("tool", sorted(path.stem for path in TOOLS.glob("*.py")))
def test_every_tool_runs_its_command(tool: str) -> None:
    script = [sys.executable, str(TOOLS / f"{tool}.py"), "--help"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60, check=True)
    command = {"import_weights": "import"}.get(tool, tool.replace("_", "-"))
    assert f"segmnv2 {command}" in done.stdout


@pytest.mark.parametrize(
    ("encoding", "folder"), [("cp1252", "猫"), ("latin-1", "猫"), ("utf-8", os.fsdecode(b"caf\xe9"))]
)
def test_names_that_the_output_cannot_encode_are_escaped(
    encoding: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True))
    assert main(["configs", "shapes", "--out", str(tmp_path / folder)]) == 0
    assert main(["infer", str(tmp_path / folder / "none.jpg"), "--weights", "w", "--out", str(tmp_path / folder)]) == 2
    for stream in (sys.stdout, sys.stderr):
        written = stream.buffer.getvalue()
        assert folder.encode("ascii", "backslashreplace") in written
        assert b"Traceback" not in written


def test_warnings_of_this_library_are_one_line_and_others_unchanged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(args: object, prog_name: str) -> None:
        for _ in range(2):
            warnings.warn("calibration: few images", SegmnWarning, stacklevel=1)
        warnings.warn("of another library", UserWarning, stacklevel=1)

    monkeypatch.setattr("segmnv2.cli.make_app", lambda: command)
    with pytest.warns(UserWarning, match="of another library") as others:
        assert main([]) == 0
    assert [each.category for each in others] == [UserWarning]
    assert capsys.readouterr().err == "warning: calibration: few images\n"


@pytest.mark.parametrize("words", [["--split", ""], ["--split="], ["-o", ""], [""]])
def test_empty_words_are_refused(words, capsys):
    assert "an empty word follows" in refused(["check-data", "shapes", *words], capsys)


@pytest.mark.parametrize("word", ["--out=~/results", "~/photos", "~"])
def test_a_tilde_is_refused(word, capsys):
    assert "the shell did not replace ~" in refused(["infer", word], capsys)


def test_options_without_effect_are_refused(capsys):
    ignored = {
        "plan --madds 1e9 --no-measure --seconds 5": "--seconds: plans without measuring",
        "plan --madds 1e9 --no-measure --threads 1 --device cpu": "--threads, --device: plans without measuring",
        "evaluate m.safetensors --dataset shapes --root .": "--root: shapes has no such option",
        "evaluate m.safetensors --dataset shapes --split val": "--split: shapes has no such option",
        "evaluate m.safetensors --dataset shapes --calibration .": "calibration: is for int8, not for float32",
        "export m.safetensors --format torch --out m.pt2 --no-verify --images .": "--images: exports without",
        "verify pyproject.toml --against m.safetensors --limit 1": "--limit: comparisons on generated images",
        "benchmark infer --engines torch:float32 --calibration .": "--calibration: engines without int8",
    }
    for command, message in ignored.items():
        assert message in refused(command.split(), capsys)


def test_the_process_exits_without_garbage_collection() -> None:
    program = "import atexit, gc, segmnv2.cli; atexit._run_exitfuncs(); print(gc.get_freeze_count() > 0)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "True\n"


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"segmnv2 {segmnv2.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_the_same_options_alone_and_in_the_application(name: str) -> None:
    alone, whole = (typer.main.get_command(make_app(first)) for first in (name, ""))
    assert isinstance(alone, TyperGroup)
    assert isinstance(whole, TyperGroup)
    assert list(alone.commands) == [name]
    assert whole.commands.keys() == COMMANDS.keys()
    options = ([each.opts for each in group.commands[name].params] for group in (alone, whole))
    assert next(options) == next(options)


def test_commands_of_other_programs_are_refused_with_the_right_one(capsys):
    assert main(["predict", "photo.jpg"]) == 2
    assert capsys.readouterr().err == "error: predict: is not a command of segmnv2; use: segmnv2 infer\n"
    assert set(HABITS.values()) <= set(COMMANDS)
    assert not set(HABITS) & set(COMMANDS)


def test_info_lists_packages_engines_and_weights(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGMNV2_CACHE", str(tmp_path))
    assert main(["info", "--json", "-"]) == 0
    output = capsys.readouterr()
    values = json.loads(output.out)
    assert values["segmnv2"] == segmnv2.__version__
    assert values["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert "float32" in values["engines"]["torch"]
    assert values["cache"] == str(tmp_path)
    assert set(values["weights"].values()) == {"not in the cache"}
    assert f"packages  torch: {values['packages']['torch']}\n" in output.err


def test_the_shell_completes_commands(capfd, monkeypatch):
    monkeypatch.setenv("_SEGMNV2_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "segmnv2 ev")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert main([]) == 0
    assert capfd.readouterr().out.split() == ["evaluate"]
