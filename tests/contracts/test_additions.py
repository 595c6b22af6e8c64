"""Suites and commands find a new backbone, head, data set, loss and export format, each added by one line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]

SUITES = {
    "tests/contracts/test_backbones.py": 8,
    "tests/contracts/test_heads.py": 8,
    "tests/contracts/test_datasets.py": 6,
    "tests/contracts/test_formats.py": 1,
    "tests/tasks/test_loss.py": 10,
}
"""Suite -> smallest number of its tests of the addition."""


def run(*command: str, folder: Path = ROOT) -> str:
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("suite", SUITES)
def test_the_suites_test_an_addition(suite: str) -> None:
    report = run("-m", "pytest", "-q", "-p", "tests.toys", "-p", "no:cacheprovider", "-k", "toy", suite)
    passed = re.search(r"(\d+) passed", report)
    assert passed, report
    assert int(passed[1]) >= SUITES[suite]


def test_the_commands_accept_an_addition(tmp_path: Path) -> None:
    options = {
        "model.name": "toy_toy",
        "data.train": "{kind: toy}",
        "data.val": "{kind: toy, first: 4}",
        "loss.toy": "1.0",
        "loss.cross_entropy": "0.0",
        "steps": "3",
        "data.crop_size": "49",
        "data.num_workers": "0",
        "model.output_stride": "16",
        "device": "cpu",
    }
    train = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    weights = "runs/toy/best.safetensors"
    commands = [
        ["train", "shapes", "--out", "runs/toy", *train],
        ["evaluate", weights, "--dataset", "toy"],
        ["check-data", "runs/toy/config.yaml"],
        ["export", weights, "--format", "toy", "--out", "toy.toy"],
        ["verify", "toy.toy", "--against", weights],
    ]
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tests.toys; from segmnv2.cli import main\n"
    program += f"for command in {commands!r}:\n    assert main(command) == 0, command\n"
    run("-c", program, folder=tmp_path)
