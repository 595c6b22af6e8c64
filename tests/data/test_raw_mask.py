from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmnv2.data.raw_mask import UnknownColorError, colors_to_ids, pack_colors, unpack_colors
from segmnv2.labels import VOID_COLOR, LabelSet, voc_palette

LABELS = LabelSet(("ground", "crop", "weed"), ((10, 20, 30), (0, 128, 0), (255, 0, 0)))
IDS = np.random.default_rng(0).integers(0, 3, (7, 9), dtype=np.uint8)


def painted(ids: np.ndarray, labels: LabelSet = LABELS) -> np.ndarray:
    table = np.zeros((256, 3), np.uint8)
    table[: labels.num_classes] = labels.palette
    table[labels.ignore_index] = VOID_COLOR
    return table[ids]


@given(st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_colors_and_ids_convert_back(count: int, seed: int) -> None:
    labels = LabelSet(tuple(map(str, range(count))), voc_palette(count))
    ids = np.random.default_rng(seed).integers(0, count + 1, (5, 8)).astype(np.uint8)
    ids[ids == count] = labels.ignore_index
    assert (colors_to_ids(painted(ids, labels), labels) == ids).all()


def test_the_void_color_is_a_class_if_the_palette_has_it() -> None:
    labels = LabelSet(("a", "b"), ((0, 0, 0), VOID_COLOR))
    assert (colors_to_ids(np.full((2, 2, 3), VOID_COLOR, np.uint8), labels) == 1).all()


def test_the_ignore_color_of_the_labels_replaces_that_of_voc() -> None:
    labels = LabelSet(LABELS.names, LABELS.palette, ignore_color=(0, 0, 0))
    assert (colors_to_ids(np.zeros((2, 2, 3), np.uint8), labels) == 255).all()
    with pytest.raises(UnknownColorError, match=r"\[224, 224, 192\] \(4 pixels\).*\[0, 0, 0\] ignored"):
        colors_to_ids(np.full((2, 2, 3), VOID_COLOR, np.uint8), labels)


@given(st.integers(0, 2**24 - 1))
def test_packed_colors_unpack(number: int) -> None:
    color = unpack_colors(np.array([[number]]))
    assert pack_colors(color)[0, 0] == number


def test_unknown_colors_are_listed_with_counts_and_allowed_ones() -> None:
    colors = painted(IDS)
    colors[0, :3] = (1, 2, 3)
    colors[1, 0] = (255, 0, 1)
    with pytest.raises(UnknownColorError) as caught:
        colors_to_ids(colors, LABELS)
    assert caught.value.count == 2
    assert str(caught.value) == (
        "colors [1, 2, 3] (3 pixels), [255, 0, 1] (1 pixels) are not those of a class; allowed are "
        "[10, 20, 30] ground, [0, 128, 0] crop, [255, 0, 0] weed, [224, 224, 192] ignored"
    )


def test_two_classes_with_one_color_are_rejected() -> None:
    labels = LabelSet(("a", "b", "c"), ((0, 0, 0), (5, 5, 5), (5, 5, 5)))
    with pytest.raises(ValueError, match=r"the classes 'b' and 'c' have the same color \[5, 5, 5\]"):
        colors_to_ids(np.zeros((2, 2, 3), np.uint8), labels)
