from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import PIL.Image
import pytest

from segmnv2.errors import ConfigError
from segmnv2.inference.predictor import Predictor


@pytest.fixture
def prediction(small_model, photo):
    """Return a prediction whose mask has a known square of class 2 in class 0."""
    made = Predictor(small_model, size=65)(photo(40, 60))
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[10:20, 30:50] = 2
    return replace(made, mask=mask)


def test_a_prediction_reads_as_its_size_and_shares(prediction):
    zero, _, two = prediction.labels.names[:3]
    assert repr(prediction) == f"<Prediction 60x40: {zero} 92%, {two} 8.3%>"
    assert prediction.shares == {zero: 2200 / 2400, two: 200 / 2400}
    assert prediction.area(2) == prediction.area(two) == 200


def test_a_notebook_shows_the_overlay(prediction):
    shown = PIL.Image.open(BytesIO(prediction._repr_png_()))
    assert np.array_equal(np.asarray(shown), np.asarray(prediction.overlay()))
    drawn = prediction.plot().get_images()[0].get_array()
    assert np.array_equal(drawn, np.asarray(prediction.overlay()))


def test_a_crop_is_the_box_with_other_pixels_transparent(prediction):
    crop = np.asarray(prediction.crop(2))
    assert np.array_equal(crop[..., :3], prediction.image[10:20, 30:50])
    assert (crop[..., 3] == 255).all()
    corner = np.asarray(prediction.crop(0))
    assert np.array_equal(corner[..., 3] == 255, prediction.mask == 0)
    with pytest.raises(ConfigError, match="no pixel"):
        prediction.crop(1)


def test_saved_is_the_overlay(prediction, tmp_path):
    prediction.save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(PIL.Image.open(tmp_path / "a.png")), np.asarray(prediction.overlay()))
    prediction.save(tmp_path / "a.JPG")
    assert PIL.Image.open(tmp_path / "a.JPG").format == "JPEG"
    with pytest.raises(ConfigError, match=r"b\.xyz.*\.png"):
        prediction.save(tmp_path / "b.xyz")


@pytest.mark.parametrize("name", ["a.ico", "a.icns", "a.xbm", "a.h5", "a.blp"])
def test_formats_that_change_or_refuse_an_overlay_are_one_message(name, prediction, tmp_path):
    with pytest.raises(ConfigError, match=rf"{name}.*\.png"):
        prediction.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_an_overlay_too_long_for_jpeg_is_refused(prediction, tmp_path):
    long = replace(prediction, image=np.zeros((2, 66000, 3), np.uint8), mask=np.zeros((2, 66000), np.uint8))
    with pytest.raises(ConfigError, match=r"JPEG cannot hold this overlay.*\.png"):
        long.save(tmp_path / "a.jpg")


def test_regions_go_by_class_name(prediction):
    name = prediction.labels.names[2]
    polygons, encoded = prediction.polygons(), prediction.to_rle()
    other = [each for each in polygons if each != name]
    assert set(polygons) == set(encoded)
    assert [len(each.exterior) for each in polygons[name]] == [8]
    assert len(other) == (0 if prediction.labels.names[0] == "background" else 1)
    assert prediction.to_coco("x.jpg")["images"][0]["file_name"] == "x.jpg"
