from __future__ import annotations

import platform
import subprocess
import sys

from segmnv2.tasks.processes import keep_freed_memory

FAULTS = """
import resource, sys
import torch
from segmnv2.tasks.processes import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
torch.set_num_threads(1)
def work():
    for _ in range(10):
        torch.ones(16, 1024, 1024)  # 64 MB
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, timeout=120, check=True)
    return int(done.stdout)


def test_freed_memory_is_used_again() -> None:
    if platform.libc_ver()[0] != "glibc":
        assert not keep_freed_memory()
        return
    assert faults("keep") < 0.1 * faults("leave")
