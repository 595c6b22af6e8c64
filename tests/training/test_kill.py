from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.processes import run_command, start_command
from tests.training.tiny import TINY

OVERRIDES = (
    "steps=24",
    "average={decay: 0.99}",
    "checkpoint.every=2",
    "validation.every=15",
    "data.batch_size=4",
    "data.num_workers=1",
    "optimizer.accumulate=2",
    "optimizer.clip_norm=1.0",
    "optimizer.warmup_steps=3",
)
PATIENCE = 120.0


def command(folder: Path) -> list[str]:
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))
    return ["train", str(config), *(word for override in OVERRIDES for word in ("-o", override)), "--resume", "auto"]


def kill_after_a_state(words: list[str], folder: Path, processes: int, moment: float) -> None:
    """Start a run and kill all its processes, as ``kill -9`` does, ``moment`` seconds after its first new state."""
    before = (folder / "last.ckpt").stat().st_mtime_ns if (folder / "last.ckpt").exists() else None
    running = start_command(words, folder.with_name("killed.txt"), processes)
    try:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and running[0].exitcode is None:
            state = folder / "last.ckpt"
            if state.exists() and state.stat().st_mtime_ns != before:
                time.sleep(moment)
                break
            time.sleep(0.005)
    finally:
        own = [process.pid for process in running if process.pid]
        for process in [*own, *(child for each in own for child in descendants(each))]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        for each in running:
            each.join(PATIENCE)
        assert running[0].exitcode == -signal.SIGKILL, "it ended before it was killed"
        assert all(each.exitcode for each in running)  # a process that lost the first may end with an error


def descendants(process: int) -> list[int]:
    """Return the ids of a process's children and of their descendants."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in listed.splitlines())}
    found = [process]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found[1:]


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "moments"), [(1, (0.0, 0.21)), (2, (0.1,))])
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one_to_the_bit(
    tmp_path: Path, processes: int, moments: tuple[float, ...]
) -> None:
    words = command(tmp_path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_command([*words, "--out", str(whole)], tmp_path / "whole.txt", processes)
    for moment in moments:
        kill_after_a_state([*words, "--out", str(broken)], broken, processes, moment)
    printed = run_command([*words, "--out", str(broken)], tmp_path / "broken.txt", processes)
    assert "resumed at step" in printed
    for name in ("last.safetensors", "best.safetensors"):
        ours, theirs = load_file(broken / name), load_file(whole / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    ours, theirs = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (broken, whole))
    assert ours["global_step"] == theirs["global_step"] == 24
    for key, tensor in theirs["current_model_state"].items():
        assert torch.equal(ours["current_model_state"][key], tensor)
    momenta, expected = (state["optimizer_states"][0]["state"] for state in (ours, theirs))
    assert all(torch.equal(momenta[key]["momentum_buffer"], expected[key]["momentum_buffer"]) for key in expected)
    assert not list(broken.glob("*.partial"))
