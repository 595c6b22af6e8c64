"""The processes of one run, as ``torchrun`` starts them on one machine or many.

Memory of the C library, which the CPU's tensors come from.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass

from segmnv2.errors import ConfigError

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


@dataclass(frozen=True)
class Processes:
    """Number of processes, and the rank of this one.

    Attributes:
        count: total number of processes.
        rank: this one's number, from 0.
        local: on this machine.
    """

    count: int = 1
    rank: int = 0
    local: int = 1

    @classmethod
    def from_environment(cls) -> Processes:
        """Read what ``torchrun`` sets; without it there is one process."""
        count, rank, local = (int(os.environ.get(name, default)) for name, default in _VARIABLES.items())
        return cls(count, rank, local)

    @property
    def machines(self) -> int:
        """Number of machines, each with as many processes."""
        return self.count // self.local

    @property
    def leads(self) -> bool:
        """Whether this process prints and writes for all."""
        return self.rank == 0

    def share(self, batch_size: int, accumulate: int = 1) -> int:
        """Return the crops that this process computes at once.

        Args:
            batch_size: crops of a step.
            accumulate: parts that a step is computed in.

        Raises:
            ConfigError: the batch cannot be divided evenly.
        """
        parts = self.count * accumulate
        if batch_size % parts:
            split = [f"{self.count} processes"] * (self.count > 1) + [f"{accumulate} parts of a step"] * (
                accumulate > 1
            )
            raise ConfigError(
                f"data.batch_size: {batch_size} cannot be divided among {' and '.join(split)}; "
                f"give a multiple of {parts}: it counts the crops of all of them together"
            )
        return batch_size // parts

    def check_validation(self, images: int) -> None:
        """Make sure that each process has an image to validate, without which they would wait for one another.

        Raises:
            ConfigError: there are fewer images than processes.
        """
        if images < self.count:
            raise ConfigError(
                f"data.val: {images} image(s) to validate and {self.count} processes; each needs one: "
                "validate on more (validation.limit), or start fewer processes"
            )


_VARIABLES = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_WORLD_SIZE": "1"}
