from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segmnv2.datasets.shapes import SHAPES_LABELS, Shapes
from segmnv2.errors import ConfigError
from tests.dataset_files import iterate


def test_a_sample_is_a_function_of_seed_and_index() -> None:
    one, again = Shapes(5, (40, 50), seed=3), Shapes(9, (40, 50), seed=3)
    again[0]
    assert (one[4].image == again[4].image).all()
    assert (one[4].mask == again[4].mask).all()
    assert one[4].name == again[4].name


def test_seeds_and_indices_give_different_images() -> None:
    pictures = [Shapes(10, (40, 50), seed=seed)[i] for seed in (0, 1) for i in range(10)]
    assert len({sample.image.tobytes() for sample in pictures}) == 20
    assert len({sample.name for sample in pictures}) == 20


@pytest.mark.parametrize("size", [(16, 16), (33, 80), (129, 129)])
def test_samples_have_the_size_and_ids_of_the_labels(size: tuple[int, int]) -> None:
    for sample in iterate(Shapes(5, size)):
        assert sample.image.shape == (*size, 3)
        assert sample.mask.shape == size
        assert set(np.unique(sample.mask)) <= {*range(SHAPES_LABELS.num_classes), 255}


def test_every_class_occurs_and_is_ringed_by_void() -> None:
    masks = np.stack([sample.mask for sample in iterate(Shapes(40, (65, 65)))])
    shares = np.bincount(masks.ravel(), minlength=256) / masks.size
    assert (shares[:5] > 0.01).all()
    assert 0.005 < shares[255] < 0.15
    left, right = masks[:, :, :-1], masks[:, :, 1:]
    assert not ((left != right) & (left != 255) & (right != 255)).any(), "classes touch only across void"


def test_color_alone_does_not_show_the_class() -> None:
    samples = list(iterate(Shapes(150, (65, 65))))
    pixels = np.concatenate([s.image[s.mask == 1] for s in samples]).astype(int)  # circles are mostly red
    red = (pixels[:, 0] > pixels[:, 1]) & (pixels[:, 0] > pixels[:, 2])
    assert 0.6 < red.mean() < 0.95


def test_indices_beyond_the_length_are_rejected() -> None:
    with pytest.raises(IndexError):
        Shapes(2)[2]


@pytest.mark.parametrize("wrong", [{"length": 0}, {"size": (8, 64)}, {"seed": -1}])
def test_wrong_arguments_are_rejected(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="at least"):
        Shapes(**{"length": 1, **wrong})
