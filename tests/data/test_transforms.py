from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segmnv2.data.sample import Sample
from segmnv2.data.transforms import (
    PAD_VALUE,
    SCALES,
    ColorJitter,
    TrainTransform,
    resize_image,
    resize_mask,
)
from segmnv2.errors import ConfigError

RNG = np.random.default_rng(0)


def noise(height: int, width: int) -> Sample:
    image = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Sample(image, RNG.integers(0, 21, (height, width), dtype=np.uint8), "noise")


@pytest.mark.parametrize("size", [(21, 33), (41, 66), (10, 16), (1, 1), (1, 40), (63, 50)])
def test_images_are_resized_with_aligned_corners(size: tuple[int, int]) -> None:
    image = noise(21, 33).image
    exact = F.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None].double(), size=size, mode="bilinear", align_corners=True
    )
    assert np.abs(resize_image(image, size) - exact[0].permute(1, 2, 0).numpy()).max() <= 1.01


@pytest.mark.parametrize("size", [(21, 33), (41, 66), (10, 16), (1, 1), (1, 40), (63, 50)])
def test_masks_use_the_nearest_pixel_with_halves_up(size: tuple[int, int]) -> None:
    mask = noise(21, 33).mask
    resized = resize_mask(mask, size)
    steps = [(old - 1) / (new - 1) if new > 1 else 0.0 for old, new in zip(mask.shape, size, strict=True)]
    for row in range(size[0]):
        for column in range(size[1]):
            source = int(np.floor(row * steps[0] + 0.5 + 1e-9)), int(np.floor(column * steps[1] + 0.5 + 1e-9))
            assert resized[row, column] == mask[source]


def test_resizing_to_the_same_size_changes_nothing() -> None:
    sample = noise(13, 17)
    assert (resize_image(sample.image, (13, 17)) == sample.image).all()
    assert (resize_mask(sample.mask, (13, 17)) == sample.mask).all()


def test_corners_stay_corners() -> None:
    sample = noise(13, 17)
    for size in [(26, 34), (7, 9)]:
        resized = resize_image(sample.image, size)
        assert (resized[[0, 0, -1, -1], [0, -1, 0, -1]] == sample.image[[0, 0, -1, -1], [0, -1, 0, -1]]).all()


@pytest.mark.parametrize("scale", SCALES)
def test_the_scaled_image_is_top_left_and_the_rest_is_padding(scale: float) -> None:
    sample = noise(21, 30)
    result = TrainTransform(80, scales=(scale,), flip=0)(sample, seed=0)
    size = int(21 * scale), int(30 * scale)
    assert result.image.shape == (80, 80, 3)
    assert (result.image[: size[0], : size[1]] == resize_image(sample.image, size)).all()
    assert (result.mask[: size[0], : size[1]] == resize_mask(sample.mask, size)).all()
    inside = np.zeros((80, 80), bool)
    inside[: size[0], : size[1]] = True
    assert (result.image[~inside] == PAD_VALUE).all()
    assert (result.mask[~inside] == 255).all()


def test_padding_is_the_models_mean_pixel_rounded() -> None:
    transform = TrainTransform(40, scales=(1.0,), flip=0)
    transform.pad_with((123.675, 116.28, 103.53))
    result = transform(noise(21, 30), seed=0)
    assert (result.image[21:] == (124, 116, 104)).all()
    assert (result.image[:, 30:] == (124, 116, 104)).all()
    transform.pad_with((127.5, 127.5, 127.5))
    assert (transform(noise(21, 30), seed=0).image[21:] == PAD_VALUE).all()


def test_image_and_mask_are_transformed_alike() -> None:
    blocks = np.kron(RNG.integers(0, 21, (5, 8), dtype=np.uint8), np.ones((12, 12), np.uint8))
    coded = Sample(np.repeat(blocks[..., None], 3, axis=2), blocks, "blocks")
    kernel = np.ones((3, 3), np.uint8)
    transform = TrainTransform(64)
    for seed in range(40):
        result = transform(coded, seed)
        flat = cv2.erode(result.mask, kernel) == cv2.dilate(result.mask, kernel)
        flat[[0, -1]] = flat[:, [0, -1]] = False  # pixels outside of the crop are unknown
        padding = result.mask == 255
        assert (flat & ~padding).mean() > 0.1
        assert (result.image[flat & ~padding] == result.mask[flat & ~padding, None]).all()
        assert (result.image[padding] == PAD_VALUE).all()


def test_flip_mirrors_the_padded_crop() -> None:
    sample = noise(20, 25)
    kept = TrainTransform(32, scales=(1.0,), flip=0)(sample, 1)
    flipped = TrainTransform(32, scales=(1.0,), flip=1)(sample, 1)
    assert (flipped.image == kept.image[:, ::-1]).all()
    assert (flipped.mask == kept.mask[:, ::-1]).all()


def test_the_result_depends_on_the_seed_alone() -> None:
    sample, transform = noise(40, 40), TrainTransform(24)
    first = transform(sample, 5)
    for other in range(3):
        transform(sample, other)
    again, elsewhere = transform(sample, 5), TrainTransform(24)(sample, 5)
    assert (first.image == again.image).all()
    assert (first.image == elsewhere.image).all()
    assert (first.mask == elsewhere.mask).all()


def test_scale_position_and_flip_are_uniform_and_independent() -> None:
    width = 64
    ramp = np.broadcast_to((3 * np.arange(width, dtype=np.uint8))[None, :, None], (width, width, 3)).copy()
    sample = Sample(ramp, np.zeros((width, width), np.uint8), "ramp")
    transform = TrainTransform(16, scales=(0.5, 1.0))
    drawn = []
    for seed in range(600):
        row = transform(sample, seed).image[0, :, 0].astype(int)
        step = abs(row[-1] - row[0]) / 15
        reach = (width if step < 4.5 else width // 2) - 16
        drawn.append((step > 4.5, row[0] > row[-1], min(row[0], row[-1]) / step / reach))
    values = np.array(drawn, float)
    assert np.abs(values.mean(0) - 0.5).max() < 0.08
    assert values[:, 2].min() < 0.03
    assert values[:, 2].max() > 0.97
    assert np.abs(np.corrcoef(values.T) - np.eye(3)).max() < 0.15


def test_the_sample_itself_is_not_changed() -> None:
    sample = noise(20, 20)
    before = sample.image.copy()
    result = TrainTransform(20, scales=(1.0,), flip=0)(sample, 0)
    result.image[:] = 0
    assert (sample.image == before).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (300, 2)])
def test_images_of_any_size_become_a_crop(shape: tuple[int, int]) -> None:
    for seed in range(8):
        assert TrainTransform(33)(noise(*shape), seed).mask.shape == (33, 33)


@pytest.mark.parametrize("wrong", [{"crop_size": 0}, {"scales": ()}, {"scales": (0.0,)}, {"flip": 1.5}])
def test_wrong_arguments_are_rejected(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be at least 1, scales positive"):
        TrainTransform(**{"crop_size": 8, **wrong})


STRONG = ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.2, chance=1.0)
NONE_OF = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def still(size: int, colors: ColorJitter | None) -> TrainTransform:
    """Return a transform that moves no pixel in images of at most this size."""
    return TrainTransform(size, scales=(1.0,), flip=0, colors=colors)


def test_colors_depend_on_the_seed_alone() -> None:
    sample, transform = noise(40, 40), TrainTransform(24, colors=STRONG)
    first = transform(sample, 5)
    other = transform(sample, 6)
    again, elsewhere = transform(sample, 5), TrainTransform(24, colors=STRONG)(sample, 5)
    assert (first.image == again.image).all()
    assert (first.image == elsewhere.image).all()
    assert (first.mask == elsewhere.mask).all()
    assert (first.image != other.image).any()


def test_color_changes_do_not_move_pixels() -> None:
    """A further step such as colors changes the crop of a seed; the amounts of color do not.

    With all amounts 0 the image is that of the crop itself, so it tells where the crop was.
    """
    sample = noise(60, 80)
    plain, colored = (TrainTransform(48, colors=colors) for colors in (ColorJitter(**NONE_OF, chance=1.0), STRONG))
    for seed in range(30):
        before, after = plain(sample, seed), colored(sample, seed)
        assert (after.mask == before.mask).all()
        assert (after.image != before.image).any()
        for result in (before, after):
            assert (result.image[result.mask == 255] == PAD_VALUE).all()
            assert result.image.dtype == result.mask.dtype == np.uint8


def test_zero_amounts_and_zero_chance_change_nothing() -> None:
    sample = noise(32, 32)
    never = ColorJitter(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5, chance=0.0)
    for colors in (ColorJitter(**NONE_OF, chance=1.0), never):
        for seed in range(10):
            result = still(32, colors)(sample, seed)
            assert (result.image == sample.image).all()
            assert (result.mask == sample.mask).all()


def test_color_changes_keep_the_mask_and_the_padding() -> None:
    sample = noise(20, 30)
    for seed in range(10):
        result = still(40, STRONG)(sample, seed)
        assert (result.mask[:20, :30] == sample.mask).all()
        assert (result.mask[20:] == 255).all()
        assert (result.image[20:] == PAD_VALUE).all()
        assert (result.image[:, 30:] == PAD_VALUE).all()
        assert (result.image[:20, :30] != sample.image).any()


def test_colors_change_with_the_given_probability() -> None:
    sample = noise(8, 8)
    transform = still(8, ColorJitter(chance=0.3))
    changed = [(transform(sample, seed).image != sample.image).any() for seed in range(400)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.08)


def test_brightness_is_uniform_within_its_range() -> None:
    gray = Sample(np.full((4, 4, 3), 100, np.uint8), np.zeros((4, 4), np.uint8), "gray")
    transform = still(4, ColorJitter(**NONE_OF | {"brightness": 0.2}, chance=1.0))
    images = [transform(gray, seed).image for seed in range(300)]
    assert all((image == image[0, 0, 0]).all() for image in images)
    values = np.array([image[0, 0, 0] for image in images], float)
    assert values.min() == pytest.approx(80, abs=2)
    assert values.max() == pytest.approx(120, abs=2)
    assert values.mean() == pytest.approx(100, abs=3)


@pytest.mark.parametrize("amount", [{"contrast": 0.8}, {"saturation": 0.8}, {"hue": 0.5}])
def test_contrast_saturation_and_hue_keep_a_uniform_gray(amount: dict[str, float]) -> None:
    gray = Sample(np.full((6, 6, 3), 90, np.uint8), np.zeros((6, 6), np.uint8), "gray")
    colorful = noise(6, 6)
    transform = still(6, ColorJitter(**NONE_OF | amount, chance=1.0))
    for seed in range(10):
        assert np.abs(transform(gray, seed).image.astype(int) - 90).max() <= 1
        assert (transform(colorful, seed).image != colorful.image).any()


def test_colors_are_clipped_at_black_and_white() -> None:
    """A uint8 sum that wraps around would turn white into black."""
    steps = np.repeat(np.array([[0, 1, 254, 255]], np.uint8)[..., None], 3, axis=2)
    sample = Sample(steps, np.zeros((1, 4), np.uint8), "ends")
    transform = still(4, ColorJitter(**NONE_OF | {"brightness": 1.0, "contrast": 1.0}, chance=1.0))
    for seed in range(100):
        row = transform(sample, seed).image[0, :, 0].astype(int)
        assert (np.diff(row) >= 0).all()


def test_the_colored_sample_itself_is_not_changed() -> None:
    sample = noise(20, 20)
    before = sample.image.copy(), sample.mask.copy()
    for seed in range(5):
        TrainTransform(20, colors=STRONG)(sample, seed)
    assert (sample.image == before[0]).all()
    assert (sample.mask == before[1]).all()
