"""Sample orders that resume exactly and repeat no sample to pad a rank."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from segmnv2.errors import ConfigError


class StepSampler(Sampler[tuple[int, int]]):
    """Endless order of training samples, as pairs (position, index).

    The sample at global position p is a pure function of (seed, p): epoch ``p // length`` is a permutation of all
    indices drawn from (seed, epoch). A run that resumes at position p therefore reads the same samples as an
    uninterrupted run. Ranks take turns: rank r gets positions ``start + r``, ``start + r + num_replicas``, .... So a
    global batch holds the same samples on any number of ranks.

    Pairs include the position, because augmentation depends on it (see ``TrainingSet``).

    Args:
        length: size of the data set.
        seed: at least 0.
        start: first global position: finished optimizer steps times the global batch size.
        num_replicas: number of ranks.
        rank: this rank.

    Raises:
        ConfigError: an empty data set, a negative seed or start, or a rank that is not in 0..num_replicas-1.
    """

    def __init__(self, length: int, seed: int, start: int = 0, num_replicas: int = 1, rank: int = 0) -> None:
        _check_rank(num_replicas, rank)
        if length < 1 or seed < 0 or start < 0:
            raise ConfigError(
                f"sampler: length {length}, seed {seed}, start {start}; "
                "length must be at least 1, seed and start at least 0"
            )
        self.length = length
        self.seed = seed
        self.start = start
        self.num_replicas = num_replicas
        self.rank = rank

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position = self.start + self.rank
        while True:
            epoch = position // self.length
            order = epoch_order(self.length, self.seed, epoch)
            while position < (epoch + 1) * self.length:
                yield position, int(order[position % self.length])
                position += self.num_replicas


class StridedSampler(Sampler[int]):
    """Every ``num_replicas``-th index from ``rank`` on, so that each sample is on exactly one rank.

    PyTorch's distributed sampler repeats samples until all ranks have equally many, which changes a mean IoU. Here,
    ranks may differ by one sample, so they must not exchange data before all have finished.

    Args:
        length: size of the data set.
        num_replicas: number of ranks.
        rank: this rank.

    Raises:
        ConfigError: a rank that is not in 0..num_replicas-1.
    """

    def __init__(self, length: int, num_replicas: int = 1, rank: int = 0) -> None:
        _check_rank(num_replicas, rank)
        self._indices = range(rank, length, num_replicas)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


def epoch_order(length: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of samples in an epoch (0, 1, ...): a permutation of ``range(length)``."""
    stream = np.random.SeedSequence(seed, spawn_key=(0, epoch))
    return np.random.default_rng(stream).permutation(length)


def augmentation_seed(seed: int, position: int) -> int:
    """Return the 32-bit seed of the augmentation at a global position, independent of the order of samples."""
    return int(np.random.SeedSequence(seed, spawn_key=(1, position)).generate_state(1)[0])


def _check_rank(num_replicas: int, rank: int) -> None:
    if not 0 <= rank < num_replicas:
        raise ConfigError(f"sampler: rank {rank} of {num_replicas}; ranks are 0..num_replicas-1")
