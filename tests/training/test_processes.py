from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segmnv2.datasets.shapes import Shapes
from segmnv2.errors import ConfigError
from segmnv2.evaluation.segmenters import evaluate
from segmnv2.inference.predictor import Predictor
from segmnv2.models.model_file import load_model, read_model_file
from segmnv2.tasks.processes import Processes
from segmnv2.training.run_folder import open_state
from tests.processes import free_port, run_command

ROOT = Path(__file__).resolve().parents[2]
SHORT = (
    "steps=3",
    "model.width=0.35",
    "data.crop_size=49",
    "data.batch_size=4",
    "data.num_workers=0",
    "data.val.length=5",  # odd, because a sampler with equal shares would count an image twice
    "data.val.size=48",
    "validation.size=49",
    "validation.every=2",
    "log.every=1",
)


OWN_STATISTICS = ("model.norm_momentum=1.0", "data.batch_size=2", "steps=12", "optimizer.lr=0.05", "log.every=100")
"""Options that make each process's running statistics those of its last crop; validation must use one process's."""


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Processes.from_environment() == Processes(1, 0, 1)
    assert Processes().leads


def test_processes_and_machines_are_read_from_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "8"), ("RANK", "5"), ("LOCAL_WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    found = Processes.from_environment()
    assert (found.count, found.rank, found.machines, found.leads) == (8, 5, 2, False)


def test_a_batch_is_shared_evenly_or_refused() -> None:
    assert Processes(4, 1, 4).share(16) == 4
    with pytest.raises(ConfigError, match=r"data\.batch_size: 6 cannot be divided among 4 processes"):
        Processes(4, 1, 4).share(6)


def test_each_process_needs_an_image_to_validate() -> None:
    Processes(2, 0, 2).check_validation(2)
    with pytest.raises(ConfigError, match=r"1 image\(s\) to validate and 2 processes"):
        Processes(2, 0, 2).check_validation(1)


@pytest.mark.slow
def test_the_validation_of_two_processes_equals_one_evaluation(tmp_path: Path) -> None:
    overrides = [word for override in SHORT for word in ("-o", override)]
    words = ["train", str(ROOT / "configs/shapes.yaml"), *overrides, "--out", str(tmp_path / "run")]
    run_command(words, tmp_path / "printed", processes=2)
    first, second = (path.read_text() for path in sorted(tmp_path.glob("printed*")))
    assert "2 processes on 1 machine(s)" in first
    assert (first + second).count("3 steps done") == 1
    last = tmp_path / "run" / "last.safetensors"
    result = evaluate(Predictor(load_model(last), size=49), Shapes(5, (48, 48), 2))
    assert read_model_file(last)[1]["provenance"]["val_miou"] == result.miou
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert steps == [1, 2, 3]


def launch(tmp_path: Path, launcher: list[str], *overrides: str) -> list[str]:
    """Return a run of the shapes on several processes."""
    words = [word for override in (*SHORT, *overrides) for word in ("-o", override)]
    script = [str(ROOT / "tools/train.py"), str(ROOT / "configs/shapes.yaml"), "--out", str(tmp_path / "run")]
    return [sys.executable, "-m", "torch.distributed.run", *launcher, *script, *words]


@pytest.mark.slow
def test_the_validation_of_two_machines_equals_one_evaluation(tmp_path: Path) -> None:
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--rdzv-id", "test"]
    command = launch(tmp_path, ["--nnodes", "2", "--nproc-per-node", "1", *meeting], *OWN_STATISTICS)
    machines = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        outputs = [machine.communicate(timeout=240) for machine in machines]
    finally:
        for machine in machines:
            machine.kill()
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    assert "2 processes on 2 machine(s)" in outputs[0][0] + outputs[1][0]
    last = tmp_path / "run" / "last.safetensors"
    result = evaluate(Predictor(load_model(last), size=49), Shapes(5, (48, 48), 2))
    assert read_model_file(last)[1]["provenance"]["val_miou"] == result.miou
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        final = list(csv.DictReader(file))[-1]
    assert final["val/pixel_accuracy"] == f"{result.accuracy:.6g}"


@pytest.mark.slow
def test_a_lost_process_stops_the_others_with_a_message_and_a_state_to_resume_from(tmp_path: Path) -> None:
    command = launch(
        tmp_path, ["--standalone", "--nproc-per-node", "2"], "steps=400", "validation.every=400", "checkpoint.every=2"
    )
    state = tmp_path / "run" / "last.ckpt"
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not state.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        listed = subprocess.run(
            ["ps", "--ppid", str(running.pid), "-o", "pid="], check=True, capture_output=True, text=True
        )
        os.kill(max(int(pid) for pid in listed.stdout.split()), signal.SIGKILL)
        _, errors = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode not in (0, None)
    assert "error: another process of this run was lost, so this one stops too" in errors
    assert "the same `segmnv2 train` command with --resume last continues from it" in errors
    assert open_state(state).step >= 2


@pytest.mark.slow
def test_a_stopped_torchrun_writes_a_state_after_the_same_step_of_all_processes(tmp_path: Path) -> None:
    command = launch(tmp_path, ["--standalone", "--nproc-per-node", "2"], "steps=4000", "validation.every=4000")
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        assert any(line.startswith("step 3/") for line in running.stdout)
        running.send_signal(signal.SIGTERM)
        output, errors = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode not in (0, None)
    assert "the same `segmnv2 train` command with --resume last continues from it" in output
    assert errors.count("stopped by SIGTERM") == 2
    assert open_state(tmp_path / "run" / "last.ckpt").step >= 3
