from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segmnv2.data.mask_file import read_mask
from segmnv2.errors import ConfigError, MediaError, WeightsError
from segmnv2.inference.predictor import Predictor
from segmnv2.inference.scores import predict_labels, predict_probabilities
from segmnv2.models.file import save_model
from segmnv2.models.zoo import create_model


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = create_model("deeplabv3_mobilenet_v2", num_classes=3, width=0.35)
    return save_model(tmp_path_factory.mktemp("weights") / "small.safetensors", model)


def test_a_file_a_picture_and_an_array_are_the_same_image(small_model, photo, tmp_path):
    image = photo(50, 61)
    Image.fromarray(image).save(tmp_path / "photo.png")
    predictor = Predictor(small_model, size=65)
    by_array = predictor(image)
    for same in (tmp_path / "photo.png", str(tmp_path / "photo.png"), Image.fromarray(image)):
        prediction = predictor(same)
        assert np.array_equal(prediction.image, image)
        assert np.array_equal(prediction.mask, by_array.mask)


def test_prediction_is_that_of_the_functions_on_arrays(small_model, photo):
    image = photo(50, 61)
    prediction = Predictor(small_model, size=65, flip=True)(image)
    assert np.array_equal(prediction.mask, predict_labels(small_model, image, size=65, flip=True))
    probabilities = predict_probabilities(small_model, image, size=65, flip=True)
    assert np.array_equal(prediction.probabilities(), probabilities)
    np.testing.assert_allclose(prediction.confidence, probabilities.max(0), atol=1e-6)
    assert prediction.confidence is prediction.confidence
    assert prediction.confidence.dtype == np.float32


def test_the_written_mask_is_the_mask(small_model, photo, tmp_path):
    prediction = Predictor(small_model, size=65)(photo(50, 61))
    prediction.save_mask(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", small_model.labels), prediction.mask)


def test_the_overlay_covers_the_image_and_more_with_a_legend(small_model, photo):
    prediction = Predictor(small_model, size=65)(photo(50, 61))
    plain, whole = prediction.overlay(legend=False), prediction.overlay()
    assert plain.size == (61, 50)
    assert whole.size != plain.size
    assert np.array_equal(np.asarray(whole)[:50, :61], np.asarray(plain))


def test_loads_a_file_at_an_output_stride(weights):
    assert Predictor.load(weights).model.output_stride == 16
    predictor = Predictor.load(weights, output_stride=8, multi_scale=True, flip=True)
    assert predictor.model.output_stride == 8
    assert not predictor.model.training
    assert len(predictor.scales) == 6


def test_refuses_bad_options_by_name(weights, tmp_path):
    with pytest.raises(ConfigError, match="size: 5"):
        Predictor.load(weights, size=5)
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        Predictor.load(tmp_path / "none.safetensors")
    with pytest.raises(ConfigError, match="stride"):
        Predictor.load(weights, output_stride=12)


def test_a_lack_of_memory_is_one_clear_message(small_model, photo, monkeypatch):
    predictor = Predictor(small_model, size="native")

    def fail(pixels):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(small_model, "raw_logits", fail)
    with pytest.raises(MediaError, match=r"image: 61x50 pixels at size 'native' do not fit in memory.*513"):
        predictor(photo(50, 61))


def test_other_errors_of_the_model_are_not_dressed_up(small_model, photo, monkeypatch):
    def fail(pixels):
        raise RuntimeError("broken invariant")

    monkeypatch.setattr(small_model, "raw_logits", fail)
    with pytest.raises(RuntimeError, match="broken invariant"):
        Predictor(small_model)(photo(50, 61))


def test_an_array_that_is_no_image_is_refused(small_model):
    with pytest.raises(MediaError, match=r"float64.*uint8"):
        Predictor(small_model)(np.zeros((3, 3, 3)))


def test_a_picture_whose_file_is_cut_off_is_refused(small_model, photo, tmp_path):
    Image.fromarray(photo(50, 61)).save(tmp_path / "photo.jpg")
    (tmp_path / "photo.jpg").write_bytes((tmp_path / "photo.jpg").read_bytes()[:-300])
    with Image.open(tmp_path / "photo.jpg") as picture, pytest.raises(MediaError, match="cannot be decoded"):
        Predictor(small_model)(picture)


def test_a_grey_array_is_an_image(small_model, photo):
    grey = photo(50, 61)[..., 0]
    prediction = Predictor(small_model, size=65)(grey)
    assert prediction.mask.shape == (50, 61)
    assert np.array_equal(prediction.image[..., 2], grey)
