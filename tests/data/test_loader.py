from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from segmnv2.data.loader import Batch, collate, training_loader, validation_loader
from segmnv2.data.sample import Sample
from segmnv2.data.transforms import TrainTransform
from segmnv2.datasets.shapes import Shapes
from segmnv2.errors import DatasetError
from tests.dataset_files import iterate

MESSAGE = "mask.png: ids 77 (3 pixels) are no class"


class Faulty(Shapes):
    """A data set whose sample 5 cannot be read."""

    def __getitem__(self, index: int, /) -> Sample:
        if index == 5:
            raise DatasetError(MESSAGE)
        return super().__getitem__(index)


class Uneven(Shapes):
    """A data set of images of different heights."""

    def __getitem__(self, index: int, /) -> Sample:
        sample = super().__getitem__(index)
        return Sample(sample.image[index:], sample.mask[index:], sample.name)


def train(count: int, **options: Any) -> list[Batch]:
    loader = training_loader(Shapes(10, (24, 24)), TrainTransform(17), **{"batch_size": 4, "seed": 1, **options})
    return list(islice(loader, count))


def equal(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        x["name"] == y["name"] and torch.equal(x["pixels"], y["pixels"]) and torch.equal(x["mask"], y["mask"])
        for x, y in zip(a, b, strict=True)
    )


def test_batches_are_uint8_and_channels_last() -> None:
    (batch,) = train(1)
    assert batch["pixels"].shape == (4, 3, 17, 17)
    assert batch["mask"].shape == (4, 17, 17)
    assert batch["pixels"].dtype == batch["mask"].dtype == torch.uint8
    assert batch["pixels"].is_contiguous(memory_format=torch.channels_last)
    assert len(batch["name"]) == 4


def test_pixels_are_rgb_of_the_image() -> None:
    dataset = Shapes(1, (24, 24))
    (batch,) = validation_loader(dataset)
    assert (batch["pixels"][0].permute(1, 2, 0).numpy() == dataset[0].image).all()
    assert (batch["mask"][0].numpy() == dataset[0].mask).all()


def test_workers_do_not_change_batches() -> None:
    assert equal(train(5, num_workers=2), train(5))


def test_a_resumed_run_reads_the_same_batches() -> None:
    assert equal(train(3, start=4 * 4), train(7)[4:])


def test_a_global_batch_is_the_same_on_any_number_of_ranks() -> None:
    whole = train(3)
    ranks = [train(3, batch_size=2, num_replicas=2, rank=rank) for rank in range(2)]
    for step in range(3):
        assert [n for pair in zip(*(r[step]["name"] for r in ranks), strict=True) for n in pair] == whole[step]["name"]
        assert torch.equal(ranks[1][step]["pixels"], whole[step]["pixels"][1::2])


def test_an_image_is_augmented_differently_in_each_epoch() -> None:
    batches = train(2, batch_size=10)
    first, second = (dict(zip(b["name"], b["pixels"].numpy(), strict=True)) for b in batches)
    assert not all(np.array_equal(first[name], second[name]) for name in first)


def test_loading_does_not_use_the_global_generator() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    train(2)
    assert torch.equal(before, torch.get_rng_state())


def test_validation_reads_each_sample_once_in_order() -> None:
    dataset = Shapes(7, (20, 24))
    loader = validation_loader(dataset)
    assert [name for batch in loader for name in batch["name"]] == [sample.name for sample in iterate(dataset)]
    assert len(loader) == 7


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_data_error_reaches_the_user_unchanged(num_workers: int) -> None:
    loaders = (
        training_loader(Faulty(8, (24, 24)), TrainTransform(17), batch_size=2, seed=0, num_workers=num_workers),
        validation_loader(Faulty(8, (24, 24)), num_workers=num_workers),
    )
    for loader in loaders:
        with pytest.raises(DatasetError) as caught:
            for _ in islice(loader, 8):
                pass
        assert str(caught.value) == MESSAGE


class Buggy(Shapes):
    """A data set that raises another error."""

    def __getitem__(self, index: int, /) -> Sample:
        raise KeyError(index)


def test_other_errors_are_raised_too() -> None:
    with pytest.raises(KeyError):
        list(validation_loader(Buggy(1, (24, 24))))


def test_different_sizes_are_validated_one_by_one_and_rejected_in_a_batch() -> None:
    dataset = Uneven(3, (24, 24))
    assert [batch["mask"].shape[1] for batch in validation_loader(dataset)] == [24, 23, 22]
    refusal = collate([dataset[0], dataset[1]])
    assert isinstance(refusal, DatasetError)
    assert "different sizes" in str(refusal)
