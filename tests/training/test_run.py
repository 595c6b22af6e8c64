from __future__ import annotations

import csv
import io
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from segmnv2.config.reading import load_experiment
from segmnv2.datasets.dataset_kinds import open_dataset
from segmnv2.datasets.shapes import Shapes
from segmnv2.engines.pytorch import torch_threads
from segmnv2.errors import ConfigError, MediaError, SegmnError, WeightsError
from segmnv2.evaluation.segmenters import evaluate
from segmnv2.inference.predictor import Predictor
from segmnv2.models.model_file import load_model, read_model_file
from segmnv2.training.run import TrainingReport, train
from tests.training.tiny import ignore, tiny
from tests.voc_layout import write_voc_layout


def interrupt_at(step: int, lines: list[str]) -> Callable[[str], None]:
    """Return a report function that collects lines and raises an interrupt at the loss of a step."""

    def report(line: str) -> None:
        lines.append(line)
        if line.startswith(f"step {step}/") and "loss" in line:
            raise KeyboardInterrupt

    return report


def rows(folder: Path) -> list[dict[str, str]]:
    """Return the table of a run without the column that depends on the clock."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "train/images_per_second"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TrainingReport:
    """An uninterrupted run; tests do not write into its folder."""
    return train(tiny(), out=tmp_path_factory.mktemp("whole") / "run", report=ignore)


@pytest.fixture
def copy(whole: TrainingReport, tmp_path: Path) -> Path:
    """A copy of the run's folder, into which a test may write."""
    shutil.copytree(whole.folder.path, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_writes_its_files_and_no_partial_files(whole: TrainingReport) -> None:
    present = {path.name for path in whole.folder.path.iterdir()}
    expected = {"config.yaml", "last.safetensors", "best.safetensors", "last.ckpt", "metrics.csv", "tensorboard"}
    assert present == {*expected, "results.png"}
    assert load_experiment(whole.folder.config) == tiny()


def test_validations_run_at_the_interval_and_after_the_last_step(whole: TrainingReport) -> None:
    assert [row["step"] for row in rows(whole.folder.path) if row["val/miou"]] == ["2", "4", "5"]
    assert [row["step"] for row in rows(whole.folder.path) if row["train/loss"]] == ["1", "2", "3", "4", "5"]
    assert whole.steps == 5


def test_the_best_model_is_that_of_the_best_validation(whole: TrainingReport) -> None:
    mious = {int(row["step"]): float(row["val/miou"]) for row in rows(whole.folder.path) if row["val/miou"]}
    assert whole.best_score is not None
    assert max(mious.values()) == pytest.approx(whole.best_score, abs=1e-3)
    provenance = read_model_file(whole.folder.best)[1]["provenance"]
    assert (provenance["step"], provenance["val_miou"]) == (whole.best_step, whole.best_score)
    assert provenance["experiment"]["optimizer"]["lr"] == 0.01


@pytest.mark.parametrize("overrides", [[], ["validation.output_stride=8", "validation.limit=2"]])
def test_validation_equals_the_evaluation(tmp_path: Path, overrides: list[str]) -> None:
    experiment = tiny("steps=2", *overrides)
    result = train(experiment, out=tmp_path, report=ignore)
    model = load_model(result.folder.last)
    assert model.output_stride == 16
    model.set_output_stride(experiment.validation.output_stride or 16)
    val = open_dataset(experiment.data.val)
    assert result.score == evaluate(Predictor(model, size=49), val, limit=experiment.validation.limit).miou


@pytest.mark.parametrize("stop", [3, 5])
def test_a_resumed_run_equals_an_uninterrupted_one(whole: TrainingReport, tmp_path: Path, stop: int) -> None:
    lines: list[str] = []
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), out=tmp_path, report=interrupt_at(stop, lines))
    assert signal.getsignal(signal.SIGINT) is handler
    assert f"last.ckpt has the state of step {stop - 1}: the same `segmnv2 train` command with --resume" in lines[-1]
    resumed = train(tiny(), out=tmp_path, resume="last", report=ignore)
    assert resumed.steps == 5
    assert (resumed.score, resumed.best_score, resumed.best_step) == (whole.score, whole.best_score, whole.best_step)
    for name in ("last.safetensors", "best.safetensors"):
        ours, theirs = load_file(tmp_path / name), load_file(whole.folder.path / name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert rows(tmp_path) == rows(whole.folder.path)


def test_the_state_needs_no_unpickling_and_holds_the_momentum(whole: TrainingReport) -> None:
    state = torch.load(whole.folder.state, weights_only=True)
    assert state["global_step"] == 5
    momenta = [entry["momentum_buffer"] for entry in state["optimizer_states"][0]["state"].values()]
    assert len(momenta) == len(list(load_model(whole.folder.last).parameters()))


def test_resuming_a_finished_run_changes_nothing(whole: TrainingReport, copy: Path) -> None:
    result = train(tiny(), out=copy, resume="last", report=ignore)
    assert (result.steps, result.best_score) == (5, whole.best_score)
    assert rows(copy) == rows(whole.folder.path)


def test_resuming_needs_no_initial_weights_but_the_same_experiment(copy: Path) -> None:
    moved = tiny("model.weights=gone.safetensors", "data.num_workers=1", "validation.every=1")
    train(moved, out=copy, resume="last", report=ignore)
    with pytest.raises(ConfigError, match=r"optimizer\.lr: 0\.01 before, 0\.02 now"):
        train(tiny("optimizer.lr=0.02"), out=copy, resume="last", report=ignore)


def test_nothing_to_resume_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"last\.ckpt: there is no such file"):
        train(tiny(), out=tmp_path, resume="last", report=ignore)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", None])
def test_a_damaged_state_is_refused(copy: Path, damage: bytes | None) -> None:
    content = (copy / "last.ckpt").read_bytes()
    (copy / "last.ckpt").write_bytes(content[: len(content) // 2] if damage is None else damage)
    with pytest.raises(WeightsError, match=r"last\.ckpt: is damaged"):
        train(tiny(), out=copy, resume="last", report=ignore)


@pytest.mark.parametrize("key", ["weights", "backbone_weights"])
def test_a_run_does_not_delete_the_weights_that_it_starts_from(copy: Path, key: str) -> None:
    before = (copy / "best.safetensors").read_bytes()
    with pytest.raises(ConfigError, match=rf"best\.safetensors: has the initial weights of the run \(model\.{key}\)"):
        train(tiny(f"model.{key}={copy / 'best.safetensors'}"), out=copy, overwrite=True, report=ignore)
    assert (copy / "best.safetensors").read_bytes() == before
    assert (copy / "last.ckpt").exists()


def test_a_folder_with_a_run_is_not_overwritten_by_accident(copy: Path) -> None:
    before = (copy / "last.safetensors").read_bytes()
    with pytest.raises(ConfigError, match=r"--resume.*--overwrite.*--out"):
        train(tiny("steps=1"), out=copy, report=ignore)
    assert (copy / "last.safetensors").read_bytes() == before
    (copy / "notes.txt").write_text("mine")
    assert train(tiny("steps=1"), out=copy, overwrite=True, report=ignore).steps == 1
    assert [row["step"] for row in rows(copy)] == ["1", "1"]
    assert (copy / "notes.txt").read_text() == "mine"


def test_wrong_settings_are_reported_before_the_folder_is_changed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    for override in (
        "model.weights=gone",
        "model.backbone_weights=gone",
        "data.val={kind: voc, root: gone, split: val}",
    ):
        with pytest.raises(SegmnError, match="gone"):
            train(tiny(override), out=out, report=ignore)
    assert not out.exists()


def test_a_count_of_one_has_a_singular_noun(tmp_path: Path) -> None:
    lines: list[str] = []
    with torch_threads(1):
        train(tiny("steps=1"), out=tmp_path, report=lines.append)
    assert any(line.startswith("training  1 step of ") and line.endswith("on CPU, 1 thread") for line in lines), lines


def test_training_on_one_batch_lowers_its_loss(tmp_path: Path) -> None:
    overrides = ["data.train.length=2", "data.flip=0", "data.scales=[1.0]", "steps=12", "validation.every=12"]
    train(tiny(*overrides), out=tmp_path, report=ignore)
    losses = [float(row["train/loss"]) for row in rows(tmp_path) if row["train/loss"]]
    assert losses[-1] < 0.7 * losses[0]


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_files(tmp_path: Path) -> None:
    with pytest.raises(SegmnError, match=r"step \d+: the loss is (nan|inf).*shapes_1_00000\d, shapes_1_00000\d"):
        train(tiny("optimizer.lr=1e30"), out=tmp_path, report=ignore)


def test_an_image_that_a_worker_cannot_read_is_reported_in_one_message(tmp_path: Path) -> None:
    folder = write_voc_layout(Shapes(2, (48, 48)), tmp_path / "VOCdevkit", "train")
    broken = sorted((folder / "JPEGImages").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:200])
    source = f"{{kind: voc, root: {tmp_path / 'VOCdevkit'}, split: train}}"
    experiment = tiny(f"data.train={source}", f"data.val={source}", "data.num_workers=1")
    with pytest.raises(MediaError, match=broken.name) as caught:
        train(experiment, out=tmp_path / "run", report=ignore)
    assert "Traceback" not in str(caught.value)


def test_lightning_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(tiny("steps=1"), out=tmp_path, report=ignore)
    assert capfd.readouterr() == ("", "")


def test_a_missing_device_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="finds no GPU"):
        train(tiny("device=cuda"), out=tmp_path, report=ignore)
    for precision in ("16-mixed", "bf16-mixed"):
        with pytest.raises(ConfigError, match=f"'{precision}' needs a GPU.*precision=32"):
            train(tiny(f"precision={precision}"), out=tmp_path, report=ignore)


def test_a_terminal_shows_a_progress_bar_with_the_validations_above(tmp_path: Path) -> None:
    screen = io.StringIO()
    lines: list[str] = []
    train(tiny(), out=tmp_path, report=lines.append, console=Console(file=screen, force_terminal=True, width=150))
    assert "5/5" in screen.getvalue()
    assert "step 5/5: validation mIOU" in screen.getvalue()
    assert not any(line.startswith("step") for line in lines)
