"""Processes that are forked from a server, which has imported the training code once for all of them.

Importing takes ten times as long as a run of a tiny model.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from segmnv2.cli import main

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["segmnv2.training.run", "segmnv2.cli"])


def start_command(words: list[str], output: Path, processes: int = 1) -> list[ForkServerProcess]:
    """Start a command, as torchrun does where there are several processes, and return its processes.

    Args:
        words: what follows the program's name.
        output: file that standard output and error are written to; those of process N > 0 get the suffix ``.N``.
        processes: number of processes, which find each other by a free port.
    """
    common = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1"}
    common |= {"MASTER_PORT": free_port(), "TORCHELASTIC_RUN_ID": "test"}
    started = []
    for rank in range(processes):
        file = output.with_name(f"{output.name}.{rank}") if rank else output
        variables = {key: str(value) for key, value in {**common, "RANK": rank, "LOCAL_RANK": rank}.items()}
        process = SERVER.Process(target=_run, args=(words, file, variables if processes > 1 else {}))
        process.start()
        started.append(process)
    return started


def run_command(words: list[str], output: Path, processes: int = 1, timeout: float = 240.0) -> str:
    """Run a command to its end, check that it succeeded, and return what (the first process of) it printed."""
    started = start_command(words, output, processes)
    for process in started:
        process.join(timeout)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    assert codes == [0] * processes, [file.read_text() for file in output.parent.glob(f"{output.name}*")]
    return output.read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(words: list[str], output: Path, variables: dict[str, str]) -> None:
    os.environ.update(variables)
    with output.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    sys.exit(main(words))
