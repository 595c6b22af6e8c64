from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmnv2.data.colour_mask import colours_to_ids, is_colour_mask, read_colour_mask
from segmnv2.data.mask_file import VOID_COLOUR
from segmnv2.errors import DatasetError
from segmnv2.labels import LabelSet, voc_palette

LABELS = LabelSet(("ground", "crop", "weed"), ((10, 20, 30), (0, 128, 0), (255, 0, 0)))
IDS = np.random.default_rng(0).integers(0, 3, (7, 9), dtype=np.uint8)


def painted(ids: np.ndarray, labels: LabelSet = LABELS) -> np.ndarray:
    table = np.zeros((256, 3), np.uint8)
    table[: labels.num_classes] = labels.palette
    table[labels.ignore_index] = VOID_COLOUR
    return table[ids]


@given(st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_painting_and_back_is_the_identity(count: int, seed: int) -> None:
    labels = LabelSet(tuple(map(str, range(count))), voc_palette(count))
    ids = np.random.default_rng(seed).integers(0, count + 1, (5, 8)).astype(np.uint8)
    ids[ids == count] = labels.ignore_index
    assert (colours_to_ids(painted(ids, labels), labels, "m") == ids).all()


def test_voids_colour_is_a_class_where_the_palette_has_it() -> None:
    labels = LabelSet(("a", "b"), ((0, 0, 0), VOID_COLOUR))
    assert (colours_to_ids(np.full((2, 2, 3), VOID_COLOUR, np.uint8), labels, "m") == 1).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_file_of_colours_reads_as_ids(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "m.png"
    PIL.Image.fromarray(painted(IDS)).convert(mode).save(path)
    assert is_colour_mask(path)
    mask = read_colour_mask(path, LABELS)
    assert mask.dtype == np.uint8
    assert (mask == IDS).all()


@pytest.mark.parametrize("mode", ["L", "P", "1"])
def test_files_of_ids_are_no_colour_masks(tmp_path: Path, mode: str) -> None:
    PIL.Image.new(mode, (4, 4)).save(tmp_path / "m.png")
    assert not is_colour_mask(tmp_path / "m.png")
    assert not is_colour_mask(tmp_path / "absent.png")


def test_unknown_colours_are_listed_with_counts_allowed_ones_and_remedy() -> None:
    colours = painted(IDS)
    colours[0, :3] = (1, 2, 3)
    colours[1, 0] = (255, 0, 1)
    with pytest.raises(DatasetError) as caught:
        colours_to_ids(colours, LABELS, "masks/beet.png")
    assert str(caught.value) == (
        "masks/beet.png: colours [1, 2, 3] (3 pixels), [255, 0, 1] (1 pixels) are no class's; allowed are "
        "[10, 20, 30] ground, [0, 128, 0] crop, [255, 0, 0] weed, [224, 224, 192] ignored; "
        "correct the mask, or the palette"
    )


def test_smoothed_masks_are_told_what_they_are() -> None:
    smooth = np.zeros((1, 40, 3), np.uint8)
    smooth[0, :, 0] = np.arange(40)
    with pytest.raises(DatasetError, match=r"and 32 more are no class's.*without antialiasing"):
        colours_to_ids(smooth, LABELS, "m")


def test_two_classes_cannot_share_a_colour() -> None:
    labels = LabelSet(("a", "b", "c"), ((0, 0, 0), (5, 5, 5), (5, 5, 5)))
    with pytest.raises(DatasetError, match=r"'b' and 'c' apart, both are \[5, 5, 5\]; give each"):
        colours_to_ids(np.zeros((2, 2, 3), np.uint8), labels, "m")


def test_transparency_and_damage_are_named(tmp_path: Path) -> None:
    clear = tmp_path / "clear.png"
    colours = np.dstack([painted(IDS), np.full(IDS.shape, 255, np.uint8)])
    colours[0, :2, 3] = 0
    PIL.Image.fromarray(colours).save(clear)
    with pytest.raises(DatasetError, match=r"clear\.png: 2 of 63 pixels are transparent.*without alpha"):
        read_colour_mask(clear, LABELS)
    short = tmp_path / "short.png"
    noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(short)
    short.write_bytes(short.read_bytes()[:2000])
    with pytest.raises(DatasetError, match=r"short\.png: cannot be read as a mask.*give a whole PNG"):
        read_colour_mask(short, LABELS)
