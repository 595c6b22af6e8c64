from __future__ import annotations

import numpy as np
import pytest
import torch

from segmnv2.inference import scores
from segmnv2.inference.scores import predict_labels, predict_scores
from segmnv2.nn.stride import resize_bilinear


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_labels_equal_the_argmax_of_all_logits_in_ties_too(output_stride, grid_model, photo):
    """With integer logits, products are exact and ties common, so no pixel may differ."""
    model, image = grid_model(output_stride=output_stride), photo(90, 120)
    canvas = torch.full((1, 3, 129, 129), 127.5)
    canvas[0, :, :90, :120] = torch.from_numpy(image).permute(2, 0, 1)
    with torch.inference_mode():
        logits = resize_bilinear(model.raw_logits(canvas), (129, 129))[0, :, :90, :120]
    best = logits.amax(0)
    assert ((logits == best).sum(0) > 1).any(), "the test needs ties"
    assert np.array_equal(predict_labels(model, image, size=129), logits.argmax(0).numpy())


@pytest.mark.parametrize("passes", [{}, {"scales": (0.5, 1.0), "flip": True}], ids=["single", "several"])
@pytest.mark.parametrize("shape", [(50, 61), (200, 90)], ids=["padded", "scaled"])
def test_bands_equal_the_whole_image(passes, shape, small_model, photo, monkeypatch):
    result = predict_scores(small_model, photo(*shape), size=65, **passes)
    monkeypatch.setitem(scores.BAND_ELEMENTS, "cpu", 2**40)
    whole = result.labels(), result.confidence(), result.probabilities()
    monkeypatch.setitem(scores.BAND_ELEMENTS, "cpu", 7 * shape[1] * small_model.num_classes)
    bands = result.labels(), result.confidence(), result.probabilities()
    assert np.array_equal(whole[0], bands[0])
    np.testing.assert_allclose(whole[1], bands[1], atol=1e-6)
    np.testing.assert_allclose(whole[2], bands[2], atol=1e-6)


@pytest.mark.parametrize("passes", [{}, {"scales": (0.5, 1.0), "flip": True}], ids=["single", "several"])
def test_labels_confidence_and_probabilities_agree(passes, small_model, photo):
    result = predict_scores(small_model, photo(50, 61), size=65, **passes)
    probabilities = result.probabilities()
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    np.testing.assert_allclose(result.confidence(), probabilities.max(0), atol=1e-6)
    assert np.array_equal(result.labels(), probabilities.argmax(0))


@pytest.mark.parametrize("size", [65, "native"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (33, 47), (66, 3), (500, 3), (3, 500)])
def test_any_size_gives_a_label_for_each_pixel(shape, size, grid_model, photo):
    labels = predict_labels(grid_model(), photo(*shape), size=size)
    assert labels.shape == shape
    assert labels.dtype == np.uint8
    assert labels.max() < 4


def test_native_size_runs_the_model_on_the_unscaled_image(small_model, photo):
    image = photo(70, 43)
    with torch.inference_mode():
        logits = small_model(torch.from_numpy(image).permute(2, 0, 1)[None])
    np.testing.assert_allclose(
        predict_scores(small_model, image, size="native").probabilities(), logits.softmax(1)[0].numpy(), atol=1e-5
    )


def test_a_large_mirrored_image_has_mirrored_borders(grid_model):
    """Scaling down and back does not move pixels: a border in the middle stays there."""
    image = np.zeros((40, 650, 3), np.uint8)
    image[:, 325:] = 255
    row = predict_labels(grid_model(output_stride=8), image, size=65)[20]
    left, right = row == row[0], row == row[-1]
    assert left[:240].all()
    assert right[-240:].all()


def test_a_constant_image_has_one_label_up_to_its_borders(grid_model):
    image = np.full((300, 170, 3), 200, np.uint8)
    cell = 300 * 8 / 65  # padding has an effect one cell into the image
    labels = predict_labels(grid_model(output_stride=8), image, size=65)
    assert np.unique(labels[:, : int(170 - cell)]).size == 1
