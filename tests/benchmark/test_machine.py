from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from segmnv2.benchmark.machine import forget_peak_memory, peak_memory

CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not forget")
def test_a_peak_is_forgotten_and_the_next_one_found():
    block = np.ones(200_000_000, np.uint8)
    high = peak_memory(CPU)
    del block
    forget_peak_memory(CPU)
    low = peak_memory(CPU)
    assert low < high - 100
    block = np.ones(150_000_000, np.uint8)
    assert low + 100 < peak_memory(CPU) < high
    del block
