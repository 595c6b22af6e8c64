from __future__ import annotations

import numpy as np
import pytest
import torch

from segmnv2.errors import ConfigError
from segmnv2.inference.canvas import SCALES
from segmnv2.inference.scores import predict_labels, predict_scores
from segmnv2.nn.stride import resize_bilinear


def published_rule(model, image, size, scales, flips):
    """Return probabilities by the rule of TensorFlow's code, in plain steps, on the whole canvas."""
    canvas = torch.full((1, 3, size, size), 127.5)
    canvas[0, :, : image.shape[0], : image.shape[1]] = torch.from_numpy(image).permute(2, 0, 1)
    total = []
    for scale in scales:
        side = int((size - 1) * scale + 1)
        scaled = resize_bilinear(canvas, (side, side))
        for flipped in flips:
            logits = model.raw_logits(scaled.flip(-1) if flipped else scaled)
            logits = resize_bilinear(logits, (size, size))
            total.append((logits.flip(-1) if flipped else logits).softmax(1))
    return torch.stack(total).mean(0)[0, :, : image.shape[0], : image.shape[1]]


@pytest.mark.parametrize(
    ("scales", "flip"), [((1.0,), False), ((1.0,), True), (SCALES, False), (SCALES, True)], ids=str
)
def test_multi_scale_follows_the_published_rule(scales, flip, small_model, photo):
    image = photo(50, 61)
    with torch.inference_mode():
        expected = published_rule(small_model, image, 65, scales, (False, True) if flip else (False,)).numpy()
    given = predict_scores(small_model, image, size=65, scales=scales, flip=flip).probabilities()
    np.testing.assert_allclose(given, expected, atol=2e-5)
    labels = predict_labels(small_model, image, size=65, scales=scales, flip=flip)
    assert len(np.unique(labels)) > 1, "a test on a single class proves nothing"
    assert (labels == expected.argmax(0)).mean() > 0.999


def test_the_model_gets_the_papers_sizes_plain_and_mirrored(grid_model, photo):
    model = grid_model()
    predict_labels(model, photo(20, 30), scales=SCALES, flip=True)
    assert model.sizes == [(side, side) for side in (257, 385, 513, 641, 769, 897) for _ in range(2)]


def test_with_flip_a_mirrored_image_has_mirrored_labels(small_model, photo):
    image = photo(65, 65)
    plain = predict_scores(small_model, image, size=65, flip=True).probabilities()
    mirrored = predict_scores(small_model, image[:, ::-1], size=65, flip=True).probabilities()
    np.testing.assert_allclose(mirrored[:, :, ::-1], plain, atol=1e-5)


def test_a_scale_off_the_grid_keeps_the_positions_of_pixels(grid_model):
    """The border between two colored halves is found within a cell, for any position of the scaled grid."""
    image = np.zeros((65, 65, 3), np.uint8)
    image[:, 33:] = 255
    model = grid_model(output_stride=8)
    for flip in (False, True):
        labels = predict_labels(model, image, size=65, scales=(1.3,), flip=flip)[:40]  # below, padding has an effect
        assert np.unique(labels[:, 8:24]).size == np.unique(labels[:, 42:57]).size == 1
        assert labels[0, 8] != labels[0, 56]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "scales",
    [(), (0.0,), (1.0, -0.5), (float("inf"),), (float("nan"),), (75.0, 100.0), "12", {0.5: 1}, {1.0}, iter([1.0]), 1.0],
)
def test_scales_out_of_range_are_rejected(scales, grid_model, photo):
    with pytest.raises(ConfigError, match="scales"):
        predict_labels(grid_model(), photo(9, 9), scales=scales)


def test_a_model_in_training_mode_is_rejected(grid_model, photo):
    with pytest.raises(ConfigError, match=r"model\.eval\(\)"):
        predict_labels(grid_model().train(), photo(9, 9))
