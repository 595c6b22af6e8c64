"""The processes of a run, which ``torchrun`` starts on one or several machines, and their memory."""

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
    """Let this process keep freed memory for its next tensors instead of returning it to the system.

    glibc returns large blocks at once. Then each training step on a CPU gets new memory for its activations, page by
    page, which takes a third of the step. With this setting the process keeps the most memory that it has used. Results
    do not change, and other C libraries are not affected.

    Returns:
        Whether the setting was applied.
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
        rank: number of this process, from 0.
        local: number of processes on this machine.
    """

    count: int = 1
    rank: int = 0
    local: int = 1

    @classmethod
    def from_environment(cls) -> Processes:
        """Read the variables that ``torchrun`` sets; without them there is one process."""
        defaults = {"WORLD_SIZE": 1, "RANK": 0, "LOCAL_WORLD_SIZE": 1}
        return cls(*(int(os.environ.get(name, default)) for name, default in defaults.items()))

    @property
    def machines(self) -> int:
        """Number of machines, each with as many processes."""
        return self.count // self.local

    @property
    def leads(self) -> bool:
        """Whether this process prints and writes for all."""
        return self.rank == 0

    def share(self, batch_size: int, accumulate: int = 1) -> int:
        """Return the number of crops that this process computes at once.

        Args:
            batch_size: number of crops in a step.
            accumulate: number of parts in which a step is computed.

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
                f"give a multiple of {parts}, because it counts the crops of the whole step"
            )
        return batch_size // parts

    def check_validation(self, images: int) -> None:
        """Check that each process has an image to validate; otherwise the processes would wait for each other.

        Raises:
            ConfigError: there are fewer images than processes.
        """
        if images < self.count:
            raise ConfigError(
                f"data.val: {images} image(s) to validate and {self.count} processes; each needs one: "
                "validate on more (validation.limit), or start fewer processes"
            )
