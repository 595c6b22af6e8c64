from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from segmnv2.engines.selection import create_backend
from segmnv2.errors import ConfigError, MediaError
from segmnv2.inference.canvas import check_image, check_size, grid_side, make_canvas
from segmnv2.inference.predictor import Predictor
from segmnv2.inference.scores import predict_labels
from segmnv2.models.pixels import IMAGENET_NORMALIZATION, TENSORFLOW_NORMALIZATION
from segmnv2.models.zoo import create_model


@pytest.mark.parametrize("shape", [(1, 1), (37, 52), (65, 65), (1, 65), (65, 1)])
def test_an_image_that_fits_keeps_its_pixels_and_is_padded_right_and_below_with_the_mean(shape, photo):
    image = photo(*shape)
    canvas = make_canvas(image, 65, 16)
    assert canvas.pixels.shape == (1, 3, 65, 65)
    assert canvas.content == canvas.image_size == shape
    inside = canvas.pixels[0, :, : shape[0], : shape[1]]
    assert torch.equal(inside, torch.from_numpy(image).permute(2, 0, 1).float())
    assert (canvas.pixels == 127.5).sum() >= 3 * (65 * 65 - shape[0] * shape[1])


@pytest.mark.parametrize(
    ("shape", "content"), [((66, 40), (65, 39)), ((5000, 3), (65, 1)), ((3, 5000), (1, 65)), ((130, 130), (65, 65))]
)
def test_a_larger_image_is_scaled_until_its_longest_side_fits(shape, content, photo):
    canvas = make_canvas(photo(*shape), 65, 16)
    assert canvas.content == content
    assert canvas.image_size == shape
    assert canvas.pixels.shape == (1, 3, 65, 65)


def test_scaling_down_takes_the_mean_of_the_area():
    checkers = np.indices((130, 130)).sum(0) % 2 * 254
    canvas = make_canvas(np.repeat(checkers[..., None], 3, axis=2).astype(np.uint8), 65, 16)
    assert torch.all(canvas.pixels == 127)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("size", [17, 64, 65, 100, "native"])
def test_sides_have_the_form_for_the_grid(size, output_stride, photo):
    canvas = make_canvas(photo(40, 23), size, output_stride)
    assert all((side - 1) % output_stride == 0 and side > 1 for side in canvas.pixels.shape[-2:])


def test_native_pads_less_than_one_cell(photo):
    canvas = make_canvas(photo(40, 200), "native", 16)
    assert canvas.content == (40, 200)
    assert canvas.pixels.shape[-2:] == (49, 209)


@pytest.mark.parametrize(("side", "expected"), [(1, 17), (2, 17), (17, 17), (18, 33), (513, 513), (514, 529)])
def test_grid_side_is_the_next_k_times_16_plus_1(side, expected):
    assert grid_side(side, 16) == expected


@pytest.mark.parametrize("size", [16, 0, -5, True, 513.0, "513", "big", None])
def test_a_size_that_is_not_an_integer_of_at_least_17_is_rejected(size):
    with pytest.raises(ConfigError, match=r"size: .*at least 17.*'native'") as error:
        check_size(size)
    assert repr(size) in str(error.value)


@pytest.mark.parametrize(
    ("image", "remedy"),
    [
        (np.random.default_rng(0).random((4, 4, 3)), r"float64 with values 0\.\d+.*astype"),
        (np.zeros((0, 0), np.float32), "float32"),
        (np.zeros((4, 4, 4), np.uint8), "alpha"),
        (np.zeros((3, 4, 5), np.uint8), "transpose"),
        (np.zeros((2, 4, 5, 3), np.uint8), "one image at a time"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\); give RGB"),
        (np.zeros((4,), np.uint8), r"\(4,\); give RGB"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), "Tensor"),
        (None, "NoneType"),
    ],
)
def test_other_objects_than_images_are_rejected_with_a_remedy(image, remedy):
    with pytest.raises(MediaError, match=remedy):
        check_image(image)


def test_gray_becomes_rgb_with_equal_channels():
    gray = np.arange(20, dtype=np.uint8).reshape(4, 5)
    assert np.array_equal(check_image(gray), np.stack([gray] * 3, axis=-1))


def test_read_only_and_mirrored_views_are_accepted(photo):
    image = photo(30, 20)[:, ::-1]
    image.setflags(write=False)
    assert np.array_equal(make_canvas(image, 33, 16).pixels[0, :, :30, :20].permute(1, 2, 0).numpy(), image)
    assert make_canvas(image, 17, 16).content == (17, 11)


@pytest.mark.parametrize("normalization", [IMAGENET_NORMALIZATION, TENSORFLOW_NORMALIZATION])
@pytest.mark.parametrize("engine", [False, True])
def test_padding_is_zero_after_any_normalization(normalization, engine, photo):
    model = create_model("deeplabv3_mobilenet_v2", num_classes=2, width=0.35, normalization=normalization).eval()
    backend = create_backend(model, "torch", "float32", 1, torch.device("cpu"), None) if engine else None
    seen = []
    network: Any = getattr(backend, "network", model)
    network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = photo(20, 30)
    predict_labels(backend or model, image, size=49)
    predictor = Predictor(model, size=49, backend=backend)
    predictor.predict([predictor.prepare(image)])
    assert len(seen) == 2
    for x in seen:
        assert x.shape == (1, 3, 49, 49)
        assert not x[..., 20:, :].any()
        assert not x[..., 30:].any()
