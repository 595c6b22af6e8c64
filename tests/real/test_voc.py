from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from segmnv2.data.transforms import TrainTransform
from segmnv2.datasets.voc import VocSegmentation

SIZES = {"train": 437, "train_aug": 737, "val": 447}


@pytest.fixture(scope="module", params=sorted(SIZES))
def dataset(request: pytest.FixtureRequest, shared: Path) -> VocSegmentation:
    return VocSegmentation(shared / "data" / "VOCdevkit", request.param)


def test_splits_have_their_sizes(dataset: VocSegmentation, request: pytest.FixtureRequest) -> None:
    assert len(dataset) == SIZES[request.node.callspec.params["dataset"]]
    assert len(set(dataset.names)) == len(dataset)


@pytest.mark.parametrize("every", [20, pytest.param(1, marks=pytest.mark.slow)])
def test_every_pair_reads_with_matching_sizes(dataset: VocSegmentation, every: int) -> None:
    for index in range(0, len(dataset), every):
        sample = dataset[index]  # sizes and ids are checked in reading
        assert max(sample.mask.shape) <= 500
        assert sample.mask.min() < 21


def test_images_are_decoded_as_pil_does(dataset: VocSegmentation) -> None:
    for index in range(0, len(dataset), 50):
        sample = dataset[index]
        with PIL.Image.open(dataset.folder / "JPEGImages" / f"{sample.name}.jpg") as image:
            assert np.abs(sample.image.astype(int) - np.array(image.convert("RGB"))).max() <= 2


def test_only_sbd_masks_lack_void(shared: Path) -> None:
    root = shared / "data" / "VOCdevkit"
    own = set(VocSegmentation(root, "train").names)
    dataset = VocSegmentation(root, "train_aug")
    void = {name: bool((dataset[i].mask == 255).any()) for i, name in enumerate(dataset.names) if i % 10 == 0}
    assert {has for name, has in void.items() if name in own} == {True}
    assert {has for name, has in void.items() if name not in own} == {False}


def test_augmented_crops_have_only_classes_of_the_mask(dataset: VocSegmentation) -> None:
    transform = TrainTransform(257)
    for index in range(0, len(dataset), 40):
        sample = dataset[index]
        result = transform(sample, seed=index)
        assert result.image.shape == (257, 257, 3)
        assert set(np.unique(result.mask)) <= {*np.unique(sample.mask), 255}
