from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from segmnv2.metrics.confusion import confusion_matrix, iou_per_class, mean_iou
from segmnv2.metrics.image_counts import ImageCounts, count_iou, interval, mean_over_classes, miou_interval, resample

CLASSES = ("sky", "road", "tree", "never")


@pytest.fixture
def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    masks = [rng.choice([0, 1, 2, 255], (9, 11)).astype(np.uint8) for _ in range(12)]
    return [(mask, np.where(rng.random(mask.shape) < 0.7, mask % 4, 0).astype(np.uint8)) for mask in masks]


@pytest.fixture
def counts(pairs) -> ImageCounts:
    result = ImageCounts()
    for number, (mask, prediction) in enumerate(pairs):
        result.add(str(number), confusion_matrix(mask, prediction, 4))
    return result


def test_the_sum_over_images_has_the_ious_of_the_whole_confusion_matrix(counts, pairs):
    whole = torch.stack([confusion_matrix(mask, prediction, 4) for mask, prediction in pairs]).sum(0)
    iou = count_iou(counts.counts.sum(0))
    np.testing.assert_allclose(iou, iou_per_class(whole).numpy())
    assert mean_over_classes(iou) == pytest.approx(mean_iou(whole))


def test_counts_survive_json(counts):
    values = json.loads(json.dumps(counts.to_list(CLASSES)))
    again = ImageCounts.from_list(((each["name"], each["counts"]) for each in values), CLASSES)
    assert again.names == counts.names
    assert np.array_equal(again.counts, counts.counts)
    with pytest.raises(KeyError, match="sea"):
        ImageCounts.from_list([("a", {"sea": [1, 2, 3]})], CLASSES)


def test_one_seed_draws_the_same_images_for_two_models(counts):
    first, second = counts.counts, counts.counts.copy()
    second[:, 0] += 1
    np.testing.assert_allclose((resample(second) - resample(first))[:, 0], len(first))


def test_a_resampled_set_has_as_many_images(counts):
    same = np.repeat(counts.counts[:1], 7, axis=0)
    assert np.array_equal(np.unique(resample(same, rounds=20), axis=0)[0], same.sum(0))


def test_the_interval_holds_the_estimate_and_shrinks_with_more_images(counts):
    few, many = counts.counts, np.repeat(counts.counts, 16, axis=0)
    estimate = float(mean_over_classes(count_iou(few.sum(0))))
    widths = []
    for values in (few, many):
        low, high = miou_interval(values)
        assert low < estimate < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.25)


def test_nothing_counted_has_no_interval():
    assert np.isnan(interval(np.array([np.nan]), 2)).all()
    assert np.isnan(mean_over_classes(np.array([np.nan, np.nan])))


def test_a_single_image_has_no_interval(counts):
    assert np.isnan(miou_interval(counts.counts[:1])).all()
    assert np.isfinite(miou_interval(counts.counts[:2])).all()
