from __future__ import annotations

import copy

import numpy as np
import pytest
from PIL import Image

from segmnv2.engines.selection import create_backend
from segmnv2.errors import ConfigError, MediaError
from segmnv2.inference.canvas import make_canvas
from segmnv2.inference.predictor import Predictor
from segmnv2.inference.scores import predict_batch, predict_scores

SIZES = [(50, 61), (33, 40), (50, 61), (120, 70), (64, 64)]


@pytest.mark.parametrize("size", [65, "native"])
@pytest.mark.parametrize("options", [{}, {"flip": True}, {"scales": (0.5, 1.0)}], ids=str)
def test_a_batch_gives_the_labels_of_single_images(size, options, small_model, photo):
    images = [photo(*sides, seed) for seed, sides in enumerate(SIZES)]
    found = predict_batch(small_model, [make_canvas(image, size, 16) for image in images], **options)
    for image, scores in zip(images, found, strict=True):
        alone = predict_scores(small_model, image, size=size, **options)
        assert np.array_equal(scores.labels(), alone.labels())
        np.testing.assert_allclose(scores.confidence(), alone.confidence(), atol=1e-5)


def test_canvases_of_one_size_are_run_at_once(grid_model, photo):
    model = grid_model()
    predict_batch(model, [make_canvas(photo(*sides), "native", 16) for sides in SIZES])
    assert sorted(model.sizes) == [(33, 49), (65, 65), (129, 81)]
    model.sizes.clear()
    predict_batch(model, [make_canvas(photo(*sides), 65, 16) for sides in SIZES])
    assert model.sizes == [(65, 65)]


def test_a_model_in_training_mode_is_rejected(grid_model, photo):
    canvases = [make_canvas(photo(20, 20), 65, 16)] * 2
    with pytest.raises(ConfigError, match="training mode"):
        predict_batch(grid_model().train(), canvases)


def test_a_layer_in_training_mode_is_rejected(small_model, photo):
    model = copy.deepcopy(small_model)
    model.backbone.train()
    with pytest.raises(ConfigError, match="training mode"):
        predict_batch(model, [make_canvas(photo(20, 20), 65, 16)] * 2)


def test_many_images_of_all_kinds_are_labeled_in_order(small_model, photo, tmp_path):
    images = [photo(*sides, seed) for seed, sides in enumerate(SIZES)]
    Image.fromarray(images[1]).save(tmp_path / "photo.png")
    kinds = [images[0], tmp_path / "photo.png", Image.fromarray(images[2]), str(tmp_path / "photo.png"), images[4]]
    predictor = Predictor(small_model, size=65)
    alone = [predictor(kind) for kind in kinds]
    for batch in (1, 2, 8):
        found = list(predictor.predict_many(iter(kinds), batch=batch))
        assert len(found) == len(kinds)
        for one, prediction in zip(alone, found, strict=True):
            assert np.array_equal(prediction.mask, one.mask)


def test_an_engine_takes_batches(small_model, photo):
    backend = create_backend(copy.deepcopy(small_model).float(), "torch")
    predictor = Predictor(small_model, size=65, backend=backend)
    images = [photo(50, 61, seed) for seed in range(3)]
    for image, prediction in zip(images, predictor.predict_many(images, batch=3), strict=True):
        assert (prediction.mask == predictor(image).mask).mean() > 0.999


def test_an_unreadable_image_is_an_error_at_its_turn(small_model, photo, tmp_path):
    found = Predictor(small_model, size=65).predict_many([photo(20, 20), tmp_path / "gone.jpg", photo(20, 20)])
    assert next(found).mask.shape == (20, 20)
    with pytest.raises(MediaError, match=r"gone\.jpg"):
        next(found)


def test_a_batch_size_is_checked_at_once(small_model):
    with pytest.raises(ConfigError, match="batch: 0"):
        Predictor(small_model).predict_many([], batch=0)


def test_a_batch_that_does_not_fit_in_memory_is_an_error_with_a_remedy(small_model, photo, monkeypatch):
    predictor = Predictor(small_model, size=65)
    prepared = [predictor.prepare(photo(50, 61))] * 3

    def fail(pixels):
        raise MemoryError

    monkeypatch.setattr(small_model, "raw_logits", fail)
    with pytest.raises(MediaError, match=r"image and 2 more at once: 61x50 pixels.*give a smaller batch"):
        predictor.predict(prepared)


def test_a_batch_too_large_for_memory_is_run_one_by_one(small_model, photo, monkeypatch):
    predictor = Predictor(small_model, size=65)
    whole = small_model.raw_logits

    def fail_for_several(pixels):
        if len(pixels) > 1:
            raise MemoryError
        return whole(pixels)

    monkeypatch.setattr(small_model, "raw_logits", fail_for_several)
    images = [photo(50, 61, seed) for seed in range(3)]
    assert [p.mask.tolist() for p in predictor.predict_many(images, batch=3)] == [
        predictor(image).mask.tolist() for image in images
    ]
