from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from segmnv2.data.shapes import Shapes
from segmnv2.engine.evaluate import evaluate
from segmnv2.engine.processes import Processes
from segmnv2.errors import ConfigError
from segmnv2.models.file import load_model, read_model_file

ROOT = Path(__file__).resolve().parents[2]
SHORT = (
    "steps=3",
    "model.width=0.35",
    "data.crop_size=49",
    "data.batch_size=4",
    "data.num_workers=0",
    "data.val.length=5",  # an odd number: a sampler that fills up to equal shares would count a picture twice
    "data.val.size=48",
    "validation.size=49",
    "validation.every=2",
    "log_every=1",
)


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Processes.from_environment() == Processes(1, 0, 1)
    assert Processes().leads


def test_torchrun_tells_processes_and_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "8"), ("RANK", "5"), ("LOCAL_WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    found = Processes.from_environment()
    assert (found.count, found.rank, found.machines, found.leads) == (8, 5, 2, False)


def test_a_batch_is_shared_evenly_or_refused() -> None:
    assert Processes(4, 1, 4).share(16) == 4
    with pytest.raises(ConfigError, match=r"data\.batch_size: 6 cannot be divided among 4 processes"):
        Processes(4, 1, 4).share(6)


@pytest.mark.slow
def test_two_processes_train_and_validate_as_one_evaluation_does(tmp_path: Path) -> None:
    overrides = [word for override in SHORT for word in ("-o", override)]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, str(ROOT / "tools/train.py"), str(ROOT / "configs/shapes.yaml"), *overrides]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run")], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "2 processes on 1 machine(s)" in done.stdout
    assert done.stdout.count("3 steps done") == 1
    last = tmp_path / "run" / "last.safetensors"
    result = evaluate(load_model(last), Shapes(5, (48, 48), 2), size=49)
    assert read_model_file(last)[1]["provenance"]["val_miou"] == result.miou
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert steps == [1, 2, 3]
