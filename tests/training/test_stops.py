from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch

from segmnv2.data.sample import Sample
from segmnv2.datasets.shapes import Shapes
from segmnv2.errors import SegmnError
from segmnv2.tasks.task import Timing
from segmnv2.training.checkpoints import Checkpoints
from segmnv2.training.run import train
from segmnv2.training.run_folder import RunFolder, open_state
from segmnv2.training.stops import explained
from tests.training.tiny import ignore, tiny


def checkpoints(folder: RunFolder) -> Checkpoints:
    return Checkpoints(folder, tiny(), Timing(5, 2), _no_network, {})


def test_a_lost_reading_process_is_reported_with_the_latest_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, read = os.getpid(), Shapes.__getitem__

    def read_or_die(self: Shapes, index: int) -> Sample:
        if os.getpid() != main and index == 5 and (tmp_path / "last.ckpt").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, index)

    monkeypatch.setattr(Shapes, "__getitem__", read_or_die)
    # PyTorch raises from a signal handler; inside a signature check, the error would become a type error.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    experiment = tiny("steps=200", "validation.every=300", "checkpoint.every=1", "data.num_workers=1")
    with pytest.raises(SegmnError, match=r"a process that reads data was lost .*last\.ckpt has the state of step \d+:"):
        train(experiment, out=tmp_path, report=ignore)
    assert open_state(tmp_path / "last.ckpt").step >= 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "-o optimizer.accumulate=2"),
        (RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:1"), "another process of this run was lost"),
        (ValueError("Expected more than 1 value per channel when training, got input size"), "raise data.batch_size"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "lower data.num_workers"),
        (
            ConnectionResetError(104, "Connection reset by peer"),
            "reset by peer); usually the memory is full: lower data.num_workers",
        ),
        (EOFError(), "lower data.num_workers"),
    ],
)
def test_errors_that_end_a_run_are_reported_with_a_remedy(tmp_path: Path, error: Exception, expected: str) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(SegmnError) as caught, explained(folder, checkpoints(folder)):
        raise error
    assert expected in str(caught.value)
    assert "the run restarts" in str(caught.value)


def test_other_errors_stay_unchanged(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for error in (RuntimeError("a shape is wrong"), PermissionError("no"), ValueError("no")):
        with pytest.raises(type(error)) as caught, explained(folder, checkpoints(folder)):
            raise error
        assert caught.value is error


def _no_network() -> Any:
    raise AssertionError
