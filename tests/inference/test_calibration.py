from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from segmnv2.errors import ConfigError, MediaError
from segmnv2.inference import options as calibration
from segmnv2.inference.options import calibration_pixels


def test_images_become_the_models_inputs():
    pictures = [np.full((30, 50, 3), value, np.uint8) for value in (10, 200)]
    found = calibration_pixels(pictures, 16, size=65)
    assert all(side % 16 == 1 for each in found for side in each.shape[-2:])
    assert [float(each[0, 0, 0, 0]) for each in found] == [10, 200]


def test_scales_take_turns():
    pictures = [np.zeros((65, 65, 3), np.uint8)] * 3
    found = calibration_pixels(pictures, 16, size=65, scales=(1.0, 0.5))
    assert [each.shape[-1] for each in found] == [65, 33, 65]


def test_images_of_a_large_folder_are_picked_evenly(tmp_path, monkeypatch):
    for index in range(9):
        Image.fromarray(np.full((20, 20, 3), index, np.uint8)).save(tmp_path / f"{index}.png")
    monkeypatch.setattr(calibration, "MOST", 3)
    found = calibration_pixels(tmp_path, 16, size=33)
    assert [float(each[0, 0, 0, 0]) for each in found] == [0, 4, 8]


def test_a_source_without_images_is_rejected(tmp_path):
    with pytest.raises(ConfigError, match="calibration: no images"):
        calibration_pixels([], 16)
    with pytest.raises(ConfigError, match=r"gone: is not a folder"):
        calibration_pixels(tmp_path / "gone", 16)
    with pytest.raises(MediaError, match=r"no image"):
        calibration_pixels(tmp_path, 16)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "images",
    [
        [np.full((9, 9, 3), 0.5, np.float32)],
        [np.full((9, 9, 3), 300)],
        [np.zeros((9, 9, 4), np.uint8)],
        ["photo.jpg"],
        np.zeros((9, 9, 3), np.uint8),
    ],
    ids=["floats", "integers", "alpha", "paths", "a single one"],
)
def test_arrays_that_are_not_8_bit_images_are_rejected(images):
    with pytest.raises(MediaError, match="give"):
        calibration_pixels(images, 16)
