from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from safetensors.torch import load_file

from segmnv2.errors import ConfigError, SegmnError, WeightsError
from segmnv2.training.run import train
from segmnv2.training.run_folder import open_state
from segmnv2.training.stops import claimed
from tests.training.tiny import ignore, tiny

OFTEN = ("steps=7", "validation.every=100", "checkpoint.every=2")


def states(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("step_*.ckpt"))


def same_weights(ours: Path, theirs: Path) -> bool:
    first, second = load_file(ours / "last.safetensors"), load_file(theirs / "last.safetensors")
    return all(torch.equal(first[key], second[key]) for key in second)


def interrupt_at(step: int) -> Any:
    def report(line: str) -> None:
        if line.startswith(f"step {step}/"):
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_resumed_between_validations_is_equal_to_the_bit(tmp_path: Path, accumulate: int) -> None:
    experiment = tiny(*OFTEN, f"optimizer.accumulate={accumulate}")
    whole = train(experiment, out=tmp_path / "whole", report=ignore)
    with pytest.raises(KeyboardInterrupt):
        train(experiment, out=tmp_path / "broken", report=interrupt_at(6))
    assert open_state(tmp_path / "broken" / "last.ckpt").step == 4
    resumed = train(experiment, out=tmp_path / "broken", resume="last", report=ignore)
    assert resumed.steps == 7
    assert resumed.score == whole.score
    assert same_weights(tmp_path / "broken", tmp_path / "whole")


def test_only_the_latest_states_are_kept(tmp_path: Path) -> None:
    train(tiny(*OFTEN, "checkpoint.keep=3"), out=tmp_path, report=ignore)
    assert states(tmp_path) == ["step_00000004.ckpt", "step_00000006.ckpt", "step_00000007.ckpt"]
    assert (tmp_path / "last.ckpt").read_bytes() == (tmp_path / "step_00000007.ckpt").read_bytes()
    train(tiny(*OFTEN, "checkpoint.keep=1"), out=tmp_path, overwrite=True, report=ignore)
    assert states(tmp_path) == []


def test_a_damaged_state_is_skipped_for_the_one_before(tmp_path: Path) -> None:
    experiment = tiny(*OFTEN, "checkpoint.keep=3")
    train(experiment, out=tmp_path / "whole", report=ignore)
    train(experiment, out=tmp_path / "run", report=ignore)
    for name in ("last.ckpt", "step_00000007.ckpt"):
        (tmp_path / "run" / name).unlink()
        (tmp_path / "run" / name).write_bytes(b"torn")
    lines: list[str] = []
    train(experiment, out=tmp_path / "run", resume="auto", report=lines.append)
    assert any("resumed at step 6 (step_00000006.ckpt)" in line for line in lines)
    assert same_weights(tmp_path / "run", tmp_path / "whole")


def test_auto_starts_resumes_and_does_nothing_after_the_end(tmp_path: Path) -> None:
    for expected in ("results", "resumed at step 3"):
        lines: list[str] = []
        assert train(tiny("steps=3"), out=tmp_path, resume="auto", report=lines.append).steps == 3
        assert expected in next(line for line in lines if line.startswith("results"))


def test_auto_restarts_a_run_without_a_state_but_does_not_overwrite_another(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny("steps=9"), out=tmp_path, report=interrupt_at(1))
    with pytest.raises(ConfigError, match=r"another experiment.*\n.*steps: 9 before, 3 now"):
        train(tiny("steps=3"), out=tmp_path, resume="auto", report=ignore)
    assert train(tiny("steps=9"), out=tmp_path, resume="auto", report=ignore).steps == 9


def test_resume_and_overwrite_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        train(tiny(), out=tmp_path, resume="auto", overwrite=True, report=ignore)


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    with claimed(tmp_path), pytest.raises(ConfigError, match="another run is writing there"):
        train(tiny("steps=1"), out=tmp_path, report=ignore)
    assert list(tmp_path.iterdir()) == []
    assert train(tiny("steps=1"), out=tmp_path, report=ignore).steps == 1


def test_a_full_disk_stops_with_a_message_and_keeps_the_earlier_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = pl.Trainer.save_checkpoint

    def save_half(self: pl.Trainer, path: Path, *_: Any, **__: Any) -> None:
        save(self, path)
        if self.global_step == 4:
            Path(path).write_bytes(Path(path).read_bytes()[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", save_half)
    with pytest.raises(WeightsError, match=r"last\.ckpt: cannot be written .*No space left.*--resume last"):
        train(tiny(*OFTEN), out=tmp_path, report=ignore)
    assert open_state(tmp_path / "last.ckpt").step == 2
    assert not list(tmp_path.glob("*.partial")) + list(tmp_path.glob(".*.partial"))
    monkeypatch.undo()
    assert train(tiny(*OFTEN), out=tmp_path, resume="last", report=ignore).steps == 7


def test_an_unwritable_log_is_reported_with_the_state_to_resume_from(tmp_path: Path) -> None:
    table = tmp_path / "metrics.csv"

    def block(line: str) -> None:
        if line.startswith("step 4/"):
            table.unlink()
            table.mkdir()

    with pytest.raises(SegmnError, match=r"metrics\.csv: cannot be written \(.*last\.ckpt has the state of step 4:"):
        train(tiny(*OFTEN), out=tmp_path, report=block)
