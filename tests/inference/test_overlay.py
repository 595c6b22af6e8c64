from __future__ import annotations

import numpy as np
import pytest

from segmnv2.errors import ConfigError
from segmnv2.inference.overlay import (
    blend,
    colorize,
    confidence_image,
    legend_entries,
    outlines,
    overlay_image,
)
from segmnv2.labels import VOC_LABELS, VOID_COLOR, LabelSet

LABELS = LabelSet(("background", "cat", "dog"), ((0, 0, 0), (200, 0, 0), (0, 100, 0)))


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.zeros((40, 60), np.uint8)
    mask[:, 20:40], mask[:, 40:] = 1, 2
    mask[0, :2] = 255
    return mask


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_each_id_has_its_color_and_other_ids_that_of_void(mask):
    colors = colorize(mask, LABELS)
    assert colors.shape == (40, 60, 3)
    assert tuple(colors[20, 30]) == (200, 0, 0)
    assert tuple(colors[0, 0]) == VOID_COLOR
    assert tuple(colorize(np.full((1, 1), 77, np.uint8), VOC_LABELS)[0, 0]) == VOID_COLOR


def test_a_region_blends_color_and_image_by_opacity(image, mask):
    mixed = blend(image, mask, LABELS, opacity=0.6)
    expected = np.rint(0.4 * image[20, 30].astype(float) + 0.6 * np.array((200, 0, 0)))
    assert np.abs(mixed[20, 30] - expected).max() <= 1


def test_the_background_keeps_the_image(image, mask):
    assert np.array_equal(blend(image, mask, LABELS)[5:, :18], image[5:, :18])
    road = LabelSet(("road", "cat", "dog"), LABELS.palette)  # a first class that is not background is drawn
    assert not np.array_equal(blend(image, mask, road)[5:, :18], image[5:, :18])


def test_opacity_1_shows_colors_and_0_shows_the_image_with_outlines(image, mask):
    inside = ~outlines(mask) & (mask > 0)
    assert np.array_equal(blend(image, mask, LABELS, 1)[inside], colorize(mask, LABELS)[inside])
    assert np.array_equal(blend(image, mask, LABELS, 0)[inside], image[inside])


def test_outlines_are_on_borders_only_and_grow_with_the_image():
    small, large = np.zeros((100, 100), np.uint8), np.zeros((1000, 1000), np.uint8)
    small[:, 50:], large[:, 500:] = 1, 1
    assert np.array_equal(np.flatnonzero(outlines(small)[0]), [49, 50])
    assert np.array_equal(np.flatnonzero(outlines(large)[0]), [497, 498, 499, 500, 501, 502])
    assert not outlines(np.full((5, 5), 3, np.uint8)).any()
    assert not outlines(np.zeros((1, 1), np.uint8)).any()


def test_strips_are_blended_like_the_whole_image(mask):
    image = np.random.default_rng(0).integers(0, 256, (600, 5, 3), dtype=np.uint8)
    rows = np.repeat(np.arange(600) // 200, 5).reshape(600, 5).astype(np.uint8)
    assert np.array_equal(blend(image, rows, LABELS)[300:390], blend(image[290:395], rows[290:395], LABELS)[10:100])


def test_the_image_itself_is_not_changed(image, mask):
    before = image.copy()
    overlay_image(image, mask, LABELS)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("opacity", [-0.1, 1.5, float("nan")])
def test_opacity_out_of_range_is_rejected(opacity, image, mask):
    with pytest.raises(ConfigError, match=r"opacity: .* 0\.\.1"):
        blend(image, mask, LABELS, opacity)


def test_the_legend_lists_the_classes_in_the_mask_largest_first(mask):
    mask[:, 40:] = 0
    entries = legend_entries(mask, LABELS)
    assert [(name, color) for name, color, _ in entries] == [
        ("background", None),
        ("cat", (200, 0, 0)),
        ("void", VOID_COLOR),
    ]
    assert sum(share for _, _, share in entries) == pytest.approx(1)
    assert entries[1][2] == pytest.approx(1 / 3)


def test_confidence_0_to_1_is_gray_0_to_255():
    confidence = np.array([[0, 0.5, 1, 1.0000001]], np.float32)
    assert confidence_image(confidence).tolist() == [[0, 128, 255, 255]]
    assert confidence_image(confidence).dtype == np.uint8
