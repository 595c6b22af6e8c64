from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools/slurm_train.sh"
CONFIG = "configs/shapes.yaml"
PATIENCE = 30
PROGRAMS = {
    "scontrol": """
        echo "scontrol $*" >> calls
        [ "$1" != requeue ] || exit "${REFUSED:-0}"
        printf 'gpu01\\ngpu02\\n'
    """,
    "torchrun": 'printf "%s\\n" "$@" > torchrun_arguments',
    # What srun does for the script, here: it runs the command on a machine. The time limit is its own child's.
    "srun": """
        echo "srun $1, $SRUN_CPUS_PER_TASK cores" >> calls
        shift
        trap 'echo terminated >> calls; exit 143' TERM
        "$@"
        [ -z "${TIME_OVER:-}" ] || { sleep 0.3; kill -USR1 $PPID; for _ in $(seq 20); do sleep 0.1; done; }
        exit "${STATUS:-0}"
    """,
}
"""Stand-ins of Slurm's programs and of torchrun, which write down how they are called."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository's folder with the stand-ins in ``bin``."""
    (tmp_path / "bin").mkdir()
    for name, body in PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.write_text(f"#!/usr/bin/env bash\n{body}\n")
        program.chmod(0o755)
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools/train.py", tmp_path / "tools")
    return tmp_path


def submit(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script as Slurm would, on two machines of four GPUs."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SRUN"))}
    job = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "41234",
        "SLURM_JOB_NODELIST": "gpu[01-02]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_CPUS_PER_TASK": "12",
    }
    return subprocess.run(
        ["bash", str(SCRIPT), *words],
        cwd=folder,
        env={**own, **job, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def test_it_is_proper_bash_and_may_be_run() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True, timeout=PATIENCE)
    assert SCRIPT.stat().st_mode & stat.S_IXUSR


def test_torchrun_joins_all_machines_at_the_first_and_goes_on_by_itself(folder: Path) -> None:
    done = submit(folder, CONFIG, "-o", "name=a b", "-o", "steps=2", "--out", "runs/x")
    assert done.returncode == 0, done.stderr
    assert calls(folder) == ["scontrol show hostnames gpu[01-02]", "srun --kill-on-bad-exit=1, 12 cores"]
    words = (folder / "torchrun_arguments").read_text().splitlines()
    given = get_args_parser().parse_args(words)
    assert (given.nnodes, given.nproc_per_node) == ("2", "4")
    assert (given.rdzv_id, given.rdzv_backend, given.rdzv_endpoint) == ("41234", "c10d", "gpu01:21234")
    assert given.training_script == "tools/train.py"
    assert given.training_script_args == [
        *(CONFIG, "-o", "name=a b", "-o", "steps=2", "--out", "runs/x"),
        *("--resume", "auto"),
    ]


def test_processes_and_port_can_be_chosen_and_default_to_one_without_gpus(folder: Path) -> None:
    submit(folder, CONFIG, PROCESSES="3", PORT="5000")
    words = (folder / "torchrun_arguments").read_text().splitlines()
    assert words[words.index("--nproc-per-node") + 1] == "3"
    assert words[words.index("--rdzv-endpoint") + 1] == "gpu01:5000"
    submit(folder, CONFIG, SLURM_GPUS_ON_NODE="")
    words = (folder / "torchrun_arguments").read_text().splitlines()
    assert words[words.index("--nproc-per-node") + 1] == "1"


def test_shortly_before_the_limit_the_job_is_requeued_and_training_ended(folder: Path) -> None:
    done = submit(folder, CONFIG, TIME_OVER="1")
    assert calls(folder)[2:] == ["scontrol requeue 41234", "terminated"]
    assert "job 41234 is requeued" in done.stdout
    assert done.returncode > 128, "it says that training was ended, not that it is done"


def test_where_requeueing_is_refused_training_goes_on(folder: Path) -> None:
    done = submit(folder, CONFIG, TIME_OVER="1", REFUSED="1", STATUS="7")
    assert calls(folder)[2:] == ["scontrol requeue 41234"]
    assert "submit it again by hand" in done.stderr
    assert done.returncode == 7


def test_a_run_that_fails_is_not_repeated(folder: Path) -> None:
    assert submit(folder, CONFIG, STATUS="3").returncode == 3
    assert not any("requeue" in call for call in calls(folder))


@pytest.mark.parametrize(
    ("words", "variables", "message"),
    [
        ((), {}, "no CONFIG"),
        ((CONFIG,), {"SLURM_JOB_ID": ""}, "submit it with sbatch"),
        ((CONFIG,), {}, "holds no tools/train.py"),
    ],
)
def test_a_wrong_call_is_explained(
    folder: Path, words: tuple[str, ...], variables: dict[str, str], message: str
) -> None:
    if "train.py" in message:
        (folder / "tools/train.py").unlink()
    done = submit(folder, *words, **variables)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (folder / "calls").exists()


def test_slurm_is_told_what_the_script_relies_on() -> None:
    told = [line.split()[1] for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH ")]
    assert {"--ntasks-per-node=1", "--requeue", "--signal=B:USR1@120", "--open-mode=append"} <= set(told)
