"""Memory of the C library, which the CPU's tensors come from."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``, from ``malloc.h``."""

LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep memory that it has freed, for its next tensors, instead of giving it back.

    glibc gives large blocks back at once, so that each training step on a CPU gets all its activations from the system
    again, page by page, which takes a third of the step. The most memory that the process has held is what it then
    holds; results do not change. Other C libraries are left unchanged.

    Returns:
        Whether it is so now.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST)) and bool(mallopt(M_TRIM_THRESHOLD, LARGEST))
