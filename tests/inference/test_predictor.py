from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from segmnv2.data.mask_file import read_mask
from segmnv2.engines.backend import Place
from segmnv2.engines.pytorch import PyTorchBackend
from segmnv2.errors import ConfigError, MediaError, SegmnError, WeightsError
from segmnv2.inference.options import InferenceOptions
from segmnv2.inference.predictor import Predictor
from segmnv2.inference.scores import predict_labels, predict_scores
from segmnv2.labels import LabelSet
from segmnv2.models.model_file import load_model, save_model
from segmnv2.models.pixels import IMAGENET_NORMALIZATION
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = create_model("deeplabv3_mobilenet_v2", num_classes=3, width=0.35)
    return save_model(tmp_path_factory.mktemp("weights") / "small.safetensors", model)


def test_a_file_a_pil_image_and_an_array_are_the_same_image(small_model, photo, tmp_path):
    image = photo(50, 61)
    Image.fromarray(image).save(tmp_path / "photo.png")
    predictor = Predictor(small_model, size=65)
    by_array = predictor(image)
    for same in (tmp_path / "photo.png", str(tmp_path / "photo.png"), Image.fromarray(image)):
        prediction = predictor(same)
        assert np.array_equal(prediction.image, image)
        assert np.array_equal(prediction.mask, by_array.mask)


@pytest.mark.parametrize(("given", "expected"), [(None, [2, 2, 1]), (3, [3, 2])])
def test_many_images_use_the_batch_of_the_options(given, expected, weights, photo, monkeypatch):
    predictor = Predictor.load(weights, size=33, device="cpu", batch=2)
    sizes, predict = [], predictor.predict

    def count(prepared):
        sizes.append(len(prepared))
        return predict(prepared)

    monkeypatch.setattr(predictor, "predict", count)
    assert len(list(predictor.predict_many([photo(30, 33)] * 5, batch=given))) == 5
    assert sizes == expected


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("kind", ["array", "picture"])
def test_a_generator_may_reuse_one_array(kind, streams, small_model, photo):
    engine = PyTorchBackend(small_model, "float32", Place(torch.device("cpu"), 1, streams))
    predictor = Predictor(small_model, size=33, backend=engine)
    images = [photo(30, 33, seed) for seed in range(8)]
    buffer, picture = np.empty_like(images[0]), Image.new("RGB", (33, 30))

    def refill():
        for image in images:
            buffer[:] = image
            picture.paste(Image.fromarray(image))
            yield buffer if kind == "array" else picture

    for image, prediction in zip(images, predictor.predict_many(refill()), strict=True):
        assert np.array_equal(prediction.image, image)
        assert np.array_equal(prediction.mask, predictor(image).mask)


def test_a_prediction_has_a_copy_of_its_image(small_model, photo):
    image = photo(30, 33)
    kept = image.copy()
    prediction = Predictor(small_model, size=33)(image)
    image[:] = 0
    assert np.array_equal(prediction.image, kept)


def replace_weights(model: Segmenter) -> None:
    model.load_state_dict({name: tensor.clone() for name, tensor in model.state_dict().items()}, assign=True)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda model: model.set_output_stride(8), "output stride 16 to 8"),
        (lambda model: model.head.logits.bias.detach().add_(1), "other weights"),
        (
            lambda model: model.head.logits.weight.data.mul_(2),
            "other weights",
        ),  # no new version
        (replace_weights, "other weights"),
        (lambda model: setattr(model.head, "logits", torch.nn.Conv2d(256, 3, 1).eval()), "other weights"),
        (lambda model: model.set_normalization(IMAGENET_NORMALIZATION), "other weights"),
    ],
    ids=["stride", "weights", "data", "assigned", "layer", "normalization"],
)
def test_a_model_changed_after_its_engine_is_rejected(change, what, weights, photo):
    predictor, live = Predictor.load(weights, size=33), Predictor(load_model(weights), size=33)
    again = pickle.loads(pickle.dumps(predictor))
    image = photo(30, 33)
    assert np.array_equal(predictor(image).mask, again(image).mask)
    for each in (predictor, again):
        each(image)
        change(each.model)
        for use in (lambda each=each: each(image), lambda each=each: copy.deepcopy(each)):
            with pytest.raises(ConfigError, match=rf"(?s){what}.*make a new predictor"):
                use()
    change(live.model)
    live(image)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
@pytest.mark.parametrize(("threads", "expected"), [(1, 0), (2, 7)])
def test_a_forked_process_is_rejected_if_pytorch_has_several_threads(threads, expected, small_model, photo):
    predictor, image, before = Predictor(small_model, size=33), photo(20, 30), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        if (child := os.fork()) == 0:
            try:
                predictor(image)
            except ConfigError as error:
                os._exit(7 if "spawn" in str(error) else 1)
            except BaseException:
                os._exit(1)
            os._exit(0)
    finally:
        torch.set_num_threads(before)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == expected


def test_predictions_equal_those_of_the_functions_on_arrays(small_model, photo):
    image = photo(50, 61)
    prediction = Predictor(small_model, size=65, flip=True)(image)
    assert np.array_equal(prediction.mask, predict_labels(small_model, image, size=65, flip=True))
    probabilities = predict_scores(small_model, image, size=65, flip=True).probabilities()
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


def test_a_file_is_loaded_at_an_output_stride(weights):
    assert Predictor.load(weights).model.output_stride == 16
    predictor = Predictor.load(weights, output_stride=8, multi_scale=True, flip=True)
    assert predictor.model.output_stride == 8
    assert not predictor.model.training
    assert len(predictor.scales) == 6


def test_bad_options_are_rejected_by_name(weights, tmp_path):
    with pytest.raises(ConfigError, match="size: 5"):
        Predictor.load(weights, size=5)
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        Predictor.load(tmp_path / "none.safetensors")
    with pytest.raises(ConfigError, match="stride"):
        Predictor.load(weights, output_stride=12)


def test_a_lack_of_memory_is_one_clear_error(small_model, photo, monkeypatch):
    predictor = Predictor(small_model, size="native")

    def fail(pixels):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(small_model, "raw_logits", fail)
    with pytest.raises(MediaError, match=r"image: 61x50 pixels at size 'native' do not fit in memory.*513"):
        predictor(photo(50, 61))


def test_other_errors_of_the_model_are_raised_unchanged(small_model, photo, monkeypatch):
    def fail(pixels):
        raise RuntimeError("broken invariant")

    monkeypatch.setattr(small_model, "raw_logits", fail)
    with pytest.raises(RuntimeError, match="broken invariant"):
        Predictor(small_model)(photo(50, 61))


def test_an_array_that_is_not_an_image_is_rejected(small_model):
    with pytest.raises(MediaError, match=r"float64.*uint8"):
        Predictor(small_model)(np.zeros((3, 3, 3)))


def test_a_pil_image_of_a_truncated_file_is_rejected(small_model, photo, tmp_path):
    Image.fromarray(photo(50, 61)).save(tmp_path / "photo.jpg")
    (tmp_path / "photo.jpg").write_bytes((tmp_path / "photo.jpg").read_bytes()[:-300])
    with Image.open(tmp_path / "photo.jpg") as picture, pytest.raises(MediaError, match="cannot be decoded"):
        Predictor(small_model)(picture)
    with Image.open(tmp_path / "photo.jpg") as picture, pytest.raises(MediaError, match="cannot be decoded"):
        list(Predictor(small_model).predict_many([picture]))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_an_opened_file_of_deep_colors_equals_its_path(suffix, small_model, photo, tmp_path):
    image = photo(20, 30)
    path = tmp_path / f"deep.{suffix}"
    cv2.imwrite(str(path), image[..., ::-1].astype(np.uint16) * 16)  # 12 bits, of which Pillow keeps the upper 4
    predictor = Predictor(small_model, size=33)
    for found in (predictor(Image.open(path)), *predictor.predict_many([Image.open(path)])):
        assert np.array_equal(found.image, predictor(path).image)
        assert np.abs(found.image.astype(int) - image).max() <= 1


def test_a_gray_array_is_an_image(small_model, photo):
    gray = photo(50, 61)[..., 0]
    prediction = Predictor(small_model, size=65)(gray)
    assert prediction.mask.shape == (50, 61)
    assert np.array_equal(prediction.image[..., 2], gray)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "one",
    [
        *(np.zeros(shape, np.uint8) for shape in ((5, 6, 3), (5, 6), (5, 6, 4), (5, 6, 1))),
        "a.jpg",
        Path("a.jpg"),
        Image.new("RGB", (6, 5)),
    ],
)
def test_a_single_image_is_rejected_where_several_are_expected(one, small_model):
    with pytest.raises(MediaError, match=f"is a single {type(one).__name__}"):
        Predictor(small_model, size=33).predict_many(one)


def test_a_stack_of_images_is_accepted(small_model):
    predictor = Predictor(small_model, size=33)
    assert [each.mask.shape for each in predictor.predict_many(np.zeros((2, 5, 6, 3), np.uint8))] == [(5, 6)] * 2


@pytest.mark.parametrize("change", ["logits", "labels"])
def test_classes_without_names_are_rejected(change, weights, photo, tmp_path):
    model = load_model(weights)
    predictor = Predictor(model, size=33)
    if change == "logits":
        model.head.logits = torch.nn.Conv2d(256, 5, 1)
    else:
        model.labels = LabelSet.numbered(2)
    for call in (
        lambda: predictor(photo(9, 9)),
        lambda: Predictor(model),
        lambda: PyTorchBackend(model, "float32", Place(torch.device("cpu"), 1)),
        lambda: save_model(tmp_path / "m.safetensors", model),
    ):
        with pytest.raises(ConfigError, match=r"head.logits, has \d classes, and \d have names"):
            call()


def test_a_new_last_layer_with_names_is_saved(weights, tmp_path):
    model = load_model(weights)
    model.head.logits, model.labels = torch.nn.Conv2d(256, 5, 1), LabelSet.numbered(5)
    assert load_model(save_model(tmp_path / "m.safetensors", model)).num_classes == 5


def test_calibration_without_int8_is_rejected(weights):
    with pytest.raises(ConfigError, match="calibration: is for int8, not for float32"):
        Predictor.load(weights, calibration=[np.zeros((9, 9, 3), np.uint8)])


def test_a_size_beyond_memory_is_rejected(small_model, photo):
    for size in (10**6, 5 * 10**12):
        with pytest.raises(MediaError, match="do not fit in memory; give a smaller size"):
            Predictor(small_model, size=size)(photo(9, 9))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("values", [{"flip": "no"}, {"flip": 1}, {"flip": None}, {"multi_scale": "12"}, {"sizes": 33}])
def test_options_of_other_types_and_names_are_rejected(values, small_model):
    with pytest.raises(ConfigError, match=r"flip|scales|sizes: is not an option; options are size, multi_scale"):
        Predictor.of(small_model, **values)
    with pytest.raises(ConfigError, match=r"flip|scales|sizes: is not an option"):
        Predictor.of(small_model, InferenceOptions(), **values)


@pytest.mark.usefixtures("unchecked")
def test_options_by_position_are_options(small_model):
    options: Any = {"size": 33}
    with pytest.raises(ConfigError, match=r"options: \{'size': 33\} is not possible; give InferenceOptions"):
        Predictor.of(small_model, options)


@pytest.mark.parametrize("batch", [1, 2])
def test_logits_that_are_not_finite_have_no_labels(batch, small_model, photo):
    model = copy.deepcopy(small_model)
    model.head.classifier.bias.data[1] = float("nan")
    with pytest.raises(SegmnError, match="image: the model's logits are not finite"):
        list(Predictor(model, size=33).predict_many([photo(20, 30)] * 2, batch=batch))


def test_arrays_of_a_subclass_become_plain_arrays(small_model, photo):
    gray = photo(20, 30)[..., 0]
    predictor = Predictor(small_model, size=33)
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix(gray)
    assert (predictor(matrix).mask == predictor(gray).mask).all()
