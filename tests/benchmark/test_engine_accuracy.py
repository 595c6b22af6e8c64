from __future__ import annotations

import numpy as np
import pytest
import torch

from segmnv2.benchmark.engine_accuracy import compare_accuracy, mean_iou_change
from segmnv2.datasets.shapes import Shapes
from segmnv2.errors import ConfigError
from segmnv2.inference.options import InferenceOptions
from segmnv2.labels import VOC_LABELS, LabelSet
from segmnv2.metrics.confusion import confusion_matrix, iou_per_class, mean_iou
from segmnv2.models.zoo import create_model
from tests.voc_layout import write_voc_layout

K = 4


def predictions(right: float, images: int = 40, seed: int = 0) -> torch.Tensor:
    """Return one confusion matrix per image, of predictions of which about a share ``right`` is correct."""
    truth = np.random.default_rng(1).integers(0, K, (images, 200), dtype=np.uint8)
    rng = np.random.default_rng(seed)
    guess = np.where(rng.random(truth.shape) < right, truth, rng.integers(0, K, truth.shape)).astype(np.uint8)
    return torch.stack([confusion_matrix(*pair, K) for pair in zip(truth, guess, strict=True)])


def test_the_change_is_computed_from_summed_counts():
    before, after = predictions(0.6), predictions(0.8, seed=1)
    change = mean_iou_change(before, after)
    assert change.value == pytest.approx(mean_iou(after.sum(0)) - mean_iou(before.sum(0)))
    assert 0 < change.low < change.value < change.high
    some = mean_iou_change(before, after, [0, 2]).value
    assert some == pytest.approx(float((iou_per_class(after.sum(0)) - iou_per_class(before.sum(0)))[[0, 2]].mean()))


def test_equal_predictions_have_a_change_and_an_interval_of_zero():
    change = mean_iou_change(predictions(0.6), predictions(0.6))
    assert (change.value, change.low, change.high) == (0, 0, 0)


def test_exchanged_predictions_have_the_negative_change():
    before, after = predictions(0.6), predictions(0.7, seed=1)
    one, other = mean_iou_change(before, after), mean_iou_change(after, before)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))


def test_other_classes_and_parts_without_images_are_refused(tmp_path):
    write_voc_layout(Shapes(3, (48, 48)), tmp_path, "val")
    model = create_model("deeplabv3_mobilenet_v2", width=0.35)
    with pytest.raises(ConfigError, match="--limit 1: leaves no image in --part judged"):
        compare_accuracy(model, tmp_path, [], InferenceOptions(size=33), part="judged", limit=1)
    names = [VOC_LABELS.names[place] for place in [*range(8), 12, *range(9, 12), 8, *range(13, 21)]]
    model.labels = LabelSet(tuple(names), VOC_LABELS.palette)
    with pytest.raises(ConfigError, match="evaluate on the classes that were trained, in their order"):
        compare_accuracy(model, tmp_path, [], InferenceOptions(size=33))


def test_a_class_without_pixels_does_not_count():
    before, after = predictions(0.6), predictions(0.8, seed=1)
    wider = [torch.nn.functional.pad(each, (0, 1, 0, 1)) for each in (before, after)]
    assert mean_iou_change(wider[0], wider[1]).value == pytest.approx(mean_iou_change(before, after).value)
