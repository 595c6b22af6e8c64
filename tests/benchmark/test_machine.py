from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

PEAKS = """
import json, numpy, torch
from segmnv2.benchmark.machine import forget_peak_memory, peak_memory

cpu = torch.device("cpu")
block = numpy.ones(200_000_000, numpy.uint8)
high = peak_memory(cpu)
del block
forget_peak_memory(cpu)
low = peak_memory(cpu)
block = numpy.ones(100_000_000, numpy.uint8)
print(json.dumps([high, low, peak_memory(cpu)]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak can be reset only on Linux")
def test_the_memory_peak_is_reset_and_measured_again() -> None:
    """The memory of the parent process must not count."""
    ours = np.ones(1_000_000_000, np.uint8)
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, timeout=120, check=True)
    high, low, then = json.loads(done.stdout)
    assert low < high - 100
    assert low + 50 < then < high < ours.nbytes / 1e6
