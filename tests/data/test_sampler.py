from __future__ import annotations

from itertools import islice

import pytest

from segmnv2.data.sampler import StepSampler, StridedSampler, augmentation_seed
from segmnv2.errors import ConfigError


def draw(count: int, **options: int) -> list[tuple[int, int]]:
    return list(islice(StepSampler(**({"length": 7, "seed": 3} | options)), count))


def test_epochs_are_different_permutations() -> None:
    indices = [index for _, index in draw(35)]
    epochs = [indices[i : i + 7] for i in range(0, 35, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


@pytest.mark.parametrize("start", [0, 1, 6, 7, 23])
def test_any_start_continues_the_same_order(start: int) -> None:
    assert draw(20, start=start) == draw(20 + start)[start:]


@pytest.mark.parametrize("replicas", [2, 3, 5, 9])
def test_ranks_take_turns_in_one_order(replicas: int) -> None:
    ranks = [draw(8, num_replicas=replicas, rank=rank, start=4) for rank in range(replicas)]
    together = [pair for turn in zip(*ranks, strict=True) for pair in turn]
    assert together == draw(8 * replicas, start=4)


def test_orders_differ_by_seed() -> None:
    assert draw(14, seed=0) != draw(14, seed=1)


def test_augmentation_seeds_differ_by_position_and_seed() -> None:
    assert len({augmentation_seed(seed, p) for seed in range(3) for p in range(1000)}) == 3000


@pytest.mark.parametrize("length", [1, 10, 11])
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_strided_ranks_cover_every_sample_once(length: int, replicas: int) -> None:
    ranks = [StridedSampler(length, replicas, rank) for rank in range(replicas)]
    assert sorted(index for rank in ranks for index in rank) == list(range(length))
    assert [len(rank) for rank in ranks] == [len(list(rank)) for rank in ranks]


@pytest.mark.parametrize("wrong", [{"length": 0}, {"seed": -1}, {"start": -1}, {"rank": 1}, {"num_replicas": 0}])
def test_wrong_arguments_are_rejected(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="sampler: "):
        StepSampler(**({"length": 7, "seed": 3} | wrong))
