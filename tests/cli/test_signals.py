"""Tests of commands that a signal stops: no incomplete files, and an exit code above 0."""

from __future__ import annotations

import signal
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from segmnv2.cli import main
from segmnv2.datasets.shapes import SHAPES_LABELS
from segmnv2.export import create
from segmnv2.files.ownership import LIST
from segmnv2.inference.files import ResultFolder
from segmnv2.models.model_file import save_model
from segmnv2.models.zoo import create_model
from segmnv2.preparation import archive as archive_module
from segmnv2.preparation.archive import unpack
from segmnv2.signals import ENDINGS, interrupting
from segmnv2.tasks.segmentation import SegmentationTask
from segmnv2.training.logs import CsvLog, read_rows
from segmnv2.training.run_folder import open_state
from tests.cli.test_train import CONFIG

NUMBERS = (signal.SIGINT, *ENDINGS)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = create_model("deeplabv3_mobilenet_v2", width=0.35, labels=SHAPES_LABELS)
    return save_model(tmp_path_factory.mktemp("w") / "m.safetensors", model)


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".") and path.name != LIST]


def signal_in(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, when: Callable[..., bool]) -> None:
    """Make a function send a signal to this process when it returns."""
    original = getattr(owner, name)

    def replaced(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        if when(*arguments, **options):
            signal.raise_signal(number)
        return result

    monkeypatch.setattr(owner, name, replaced)


@pytest.mark.parametrize(
    ("number", "moment", "expected"),
    [
        (signal.SIGTERM, "step", 2),
        (signal.SIGTERM, "validation", 3),
        (signal.SIGHUP, "validation", 4),
        (signal.SIGHUP, "validated", 3),
    ],
)
def test_training_finishes_its_step_saves_and_resumes_exactly(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    moment: str,
    expected: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(CONFIG)
    words = ["train", "tiny.yaml", "-o", "steps=4", "-o", "validation.every=3", "-o", "average={decay: 0.9}"]
    assert main([*words, "--out", "whole"]) == 0
    validated: list[int] = []
    with monkeypatch.context() as patch:

        def logged(log: CsvLog, metrics: dict[str, float], step: int) -> bool:
            return step == expected and moment == ("step" if "train/loss" in metrics else "validated")

        def validating(task: SegmentationTask, *_: Any) -> bool:
            validated.append(task.global_step)
            return moment == "validation" and task.global_step == expected

        signal_in(patch, CsvLog, "log_metrics", number, logged)
        signal_in(patch, SegmentationTask, "validation_step", number, validating)
        assert main([*words, "--out", "run"]) == 128 + number
    assert validated.count(expected) == {"step": 0, "validation": 1, "validated": 2}[moment]
    captured = capsys.readouterr()
    assert (
        f"stopped; run/last.ckpt has the state of step {expected}: the same `segmnv2 train` command with --resume last"
        in captured.out
    )
    assert captured.err.strip() == f"stopped by {signal.Signals(number).name}"
    assert open_state(Path("run/last.ckpt")).step == expected
    assert hidden(tmp_path) == []
    assert main([*words, "--out", "run", "--resume", "last"]) == 0
    for name in ("last.safetensors", "best.safetensors"):
        ours, theirs = load_file(f"run/{name}"), load_file(f"whole/{name}")
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    ran, expected_rows = (
        [(row["step"], row["val/miou"]) for row in read_rows(Path(folder, "metrics.csv"))]
        for folder in ("run", "whole")
    )
    assert ran == expected_rows


@pytest.mark.parametrize("number", NUMBERS)
def test_infer_writes_complete_files_and_counts_them(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    for index in range(12):
        Image.fromarray(np.full((20, 20, 3), index, np.uint8)).save(tmp_path / f"{index:02}.png")
    signal_in(monkeypatch, ResultFolder, "write", number, lambda folder, made, name: name == "02")
    out = tmp_path / "out"
    words = ["infer", str(tmp_path), "--weights", str(weights), "--out", str(out), "--size", "33"]
    assert main(words) == 128 + number
    captured = capsys.readouterr()
    assert f"written to {out}, 0 failed, of 12 images" in captured.out
    assert captured.err.strip() == ("interrupted" if number == signal.SIGINT else f"stopped by {number.name}")  # type: ignore[attr-defined]
    assert 0 < len(list((out / "masks").glob("*.png"))) < 12
    for file in out.rglob("[!.]*.*"):
        Image.open(file).load()


@pytest.mark.parametrize("number", NUMBERS)
def test_a_stopped_export_writes_no_file(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    written: list[Path] = []

    def stop(staged: Path, *_: Any, **__: Any) -> None:
        written.extend(tmp_path.rglob(staged.name))
        signal.raise_signal(number)

    monkeypatch.setattr(create, "verify_export", stop)
    words = ["export", str(weights), "--format", "torch", "--size", "33", "--out", str(tmp_path / "m.pt2")]
    assert main(words) == 128 + number
    assert written
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", NUMBERS)
def test_a_stopped_extraction_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("x/1", "x/2"):
            archive.addfile(tarfile.TarInfo(name))
    signal_in(monkeypatch, archive_module, "_write_file", number, lambda *_: True)
    with pytest.raises(KeyboardInterrupt), interrupting():
        unpack(tmp_path / "a.tar", tmp_path / "made", inside="x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]
