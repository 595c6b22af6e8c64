from __future__ import annotations

import numpy as np
import pytest
import torch

from segmnv2.data.image_transforms import CentralTransform, CropTransform, collate_images
from segmnv2.data.sample import LabeledImage
from segmnv2.data.transforms import ColorJitter


@pytest.fixture
def sample() -> LabeledImage:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    return LabeledImage(image, 3, "a/b.png")


def test_a_crop_depends_on_its_seed_and_not_on_the_global_generator(sample: LabeledImage) -> None:
    transform = CropTransform(32, colors=ColorJitter(chance=1.0))
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = transform(sample, 1), transform(sample, 1), transform(sample, 2)
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)
    assert first.image.shape == (32, 32, 3)
    assert first.image.dtype == np.uint8
    assert (first.label, first.name) == (3, "a/b.png")


def test_the_whole_area_without_randomness_is_a_resize(sample: LabeledImage) -> None:
    """An image with the size of the crop does not change."""
    square = LabeledImage(sample.image[:60, :60], 0, "x")
    same = CropTransform(60, area=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0)(square, 5)
    assert np.array_equal(same.image, square.image)
    mirrored = CropTransform(60, area=(1.0, 1.0), aspect=(1.0, 1.0), flip=1.0)(square, 5)
    assert np.array_equal(mirrored.image, square.image[:, ::-1])


def test_a_small_area_shows_a_small_part() -> None:
    """A crop of a twentieth of a ramp has a smaller range of values than the ramp."""
    ramp = np.repeat(np.arange(250, dtype=np.uint8)[None, :, None], 250, axis=0).repeat(3, axis=2)
    sample = LabeledImage(ramp, 0, "ramp")
    spans = [int(np.ptp(CropTransform(64, area=(0.05, 0.05))(sample, seed).image)) for seed in range(8)]
    assert max(spans) < 80
    assert np.ptp(CropTransform(64, area=(1.0, 1.0), aspect=(1.0, 1.0))(sample, 0).image) > 200


def test_the_center_crop_keeps_the_aspect_and_its_share() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, 50:150] = 200  # the central square
    seen = CentralTransform(32, 1.0)(LabeledImage(image, 0, "x")).image
    assert seen.shape == (32, 32, 3)
    assert seen[:, 2:-2].min() == 200
    border = np.full((80, 80, 3), 255, np.uint8)
    border[5:-5, 5:-5] = 0  # outside of 0.875 of the side
    assert CentralTransform(70, 0.875)(LabeledImage(border, 0, "x")).image.max() == 0
    assert CentralTransform(70, 1.0)(LabeledImage(border, 0, "x")).image.max() == 255


def test_batches_are_channels_last_in_memory(sample: LabeledImage) -> None:
    batch = collate_images([sample, sample])
    pixels, label = batch["pixels"], batch["label"]
    assert isinstance(pixels, torch.Tensor)
    assert isinstance(label, torch.Tensor)
    assert pixels.shape == (2, 3, 60, 90)
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(pixels[1].permute(1, 2, 0).numpy(), sample.image)
    assert label.tolist() == [3, 3]
    assert batch["name"] == ["a/b.png"] * 2
