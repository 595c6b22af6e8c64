from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.engine.tiny import TINY

ROOT = Path(__file__).resolve().parents[2]
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


def command(folder: Path, processes: int) -> list[str]:
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    overrides = [word for override in OVERRIDES for word in ("-o", override)]
    start = [sys.executable, *(launcher if processes > 1 else []), str(ROOT / "tools/train.py"), str(config)]
    return [*start, *overrides, "--resume", "auto"]


def kill_after_a_state(words: list[str], folder: Path, moment: float) -> None:
    """Start a run, and kill all its processes as ``kill -9`` does, so long after its first new state."""
    before = (folder / "last.ckpt").stat().st_mtime_ns if (folder / "last.ckpt").exists() else None
    running = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and running.poll() is None:
            state = folder / "last.ckpt"
            if state.exists() and state.stat().st_mtime_ns != before:
                time.sleep(moment)
                break
            time.sleep(0.005)
    finally:
        for process in [*descendants(running.pid), running.pid]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        assert running.wait(PATIENCE) == -signal.SIGKILL, "it ended before it was killed"


def descendants(process: int) -> list[int]:
    """Return the processes that a process started, and those they started; torchrun's are no group of its own."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in listed.splitlines())}
    found = [process]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found[1:]


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "moments"), [(1, (0.0, 0.21)), (2, (0.1,))])
def test_a_run_killed_in_the_middle_and_resumed_is_the_unbroken_one_to_the_bit(
    tmp_path: Path, processes: int, moments: tuple[float, ...]
) -> None:
    words = command(tmp_path, processes)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run([*words, "--out", str(whole)], check=True, timeout=PATIENCE, capture_output=True)
    for moment in moments:
        kill_after_a_state([*words, "--out", str(broken)], broken, moment)
    done = subprocess.run([*words, "--out", str(broken)], check=True, timeout=PATIENCE, capture_output=True, text=True)
    assert "resumed at step" in done.stdout
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
