from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segmnv2.metrics import confusion
from segmnv2.metrics.confusion import (
    ConfusionMatrix,
    TopAccuracy,
    class_accuracy,
    confusion_matrix,
    iou_per_class,
    mean_iou,
    pixel_accuracy,
)

K = 5


def draw(seed: int = 0, shape: tuple[int, ...] = (13, 17)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mask = rng.choice([*range(K), 255], shape).astype(np.uint8)
    return mask, rng.integers(0, K, shape, dtype=np.uint8)


def count(mask: np.ndarray, prediction: np.ndarray) -> list[list[int]]:
    """Count by the definition, pixel by pixel."""
    matrix = [[0] * K for _ in range(K)]
    for truth, guess in zip(mask.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if truth != 255:
            matrix[truth][guess] += 1
    return matrix


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_pixels_are_counted_by_truth_and_prediction(convert, dtype) -> None:
    mask, prediction = draw()
    counted = confusion_matrix(convert(mask.astype(dtype)), convert(prediction), K)
    assert counted.dtype == torch.int64
    assert counted.tolist() == count(mask, prediction)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_gives_the_same_counts() -> None:
    mask, prediction = (torch.from_numpy(ids) for ids in draw())
    assert torch.equal(confusion_matrix(mask.cuda(), prediction.cuda(), K).cpu(), confusion_matrix(mask, prediction, K))


def test_views_read_only_arrays_and_nothing_at_all_are_counted() -> None:
    mask, prediction = draw(shape=(9, 12))
    mask.flags.writeable = False
    assert confusion_matrix(mask.T[::2], prediction.T[::2], K).tolist() == count(mask.T[::2], prediction.T[::2])
    assert confusion_matrix(mask[:0], prediction[:0], K).sum() == 0


def test_large_images_are_counted_in_exact_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    mask, prediction = draw()
    whole = confusion_matrix(mask, prediction, K)
    monkeypatch.setattr(confusion, "_EXACT", 50)
    assert torch.equal(confusion_matrix(mask, prediction, K), whole)


def test_predictions_on_ignored_pixels_do_not_count() -> None:
    mask, prediction = draw()
    other = np.where(mask == 255, 200, prediction).astype(np.uint8)
    assert torch.equal(confusion_matrix(mask, other, K), confusion_matrix(mask, prediction, K))


def test_the_sum_over_parts_equals_the_whole() -> None:
    mask, prediction = draw(shape=(6, 8, 9))
    parts = ConfusionMatrix(K)
    for one, other in zip(mask, prediction, strict=True):
        parts.update(one, other)
    assert torch.equal(parts.counts, confusion_matrix(mask, prediction, K))
    parts.reset()
    assert parts.counts.sum() == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_ids_out_of_range_are_listed(dtype) -> None:
    mask, prediction = (ids.astype(dtype) for ids in draw())
    wrong = mask.copy()
    wrong[0, :3] = 7
    with pytest.raises(ValueError, match=r"mask: ids 7 \(3 pixels\); allowed are 0..4 and 255"):
        confusion_matrix(wrong, prediction, K)
    mask[0, 0], prediction[0, 0] = 0, 5
    with pytest.raises(ValueError, match=r"prediction: ids 5 \(1 pixels\)"):
        confusion_matrix(mask, prediction, K)


@pytest.mark.parametrize("value", [-1, 256, 300])
def test_ids_beyond_a_byte_do_not_wrap_around(value: int) -> None:
    mask, prediction = (ids.astype(np.int64) for ids in draw())
    mask[0, 0] = value
    with pytest.raises(ValueError, match=r"must fit in 0..255"):
        confusion_matrix(mask, prediction, K)


def test_shapes_and_classes_must_fit() -> None:
    mask, prediction = draw()
    with pytest.raises(ValueError, match="differ in shape"):
        confusion_matrix(mask, prediction[1:], K)
    with pytest.raises(ValueError, match="num_classes 300"):
        confusion_matrix(mask, prediction, 300)


def test_a_failed_update_adds_nothing() -> None:
    running = ConfusionMatrix(K)
    with pytest.raises(ValueError, match="ids 9"):
        running.update(np.full((2, 2), 9, np.uint8), np.zeros((2, 2), np.uint8))
    assert running.counts.sum() == 0


def test_a_correct_prediction_has_iou_1() -> None:
    mask, _ = draw()
    counts = confusion_matrix(mask, np.where(mask == 255, 0, mask).astype(np.uint8), K)
    assert iou_per_class(counts).tolist() == [1.0] * K
    assert mean_iou(counts) == pixel_accuracy(counts) == 1.0


def test_iou_equals_a_case_computed_by_hand() -> None:
    counts = torch.tensor([[3, 1], [2, 4]])
    assert iou_per_class(counts).tolist() == [3 / 6, 4 / 7]
    assert class_accuracy(counts).tolist() == [3 / 4, 4 / 6]
    assert pixel_accuracy(counts) == 7 / 10


def test_absent_classes_have_no_iou_and_false_alarms_have_iou_0() -> None:
    counts = torch.tensor([[8, 2, 0], [0, 0, 0], [0, 0, 0]])  # class 1 only predicted, class 2 nowhere
    ious = iou_per_class(counts)
    assert ious[:2].tolist() == [0.8, 0.0]
    assert ious[2].isnan()
    assert mean_iou(counts) == 0.4
    assert class_accuracy(counts)[1:].isnan().all()


def test_zero_counts_have_no_value() -> None:
    counts = torch.zeros(K, K, dtype=torch.int64)
    assert np.isnan([mean_iou(counts), pixel_accuracy(counts)]).all()


def test_renaming_classes_permutes_their_ious() -> None:
    counts = confusion_matrix(*draw(), K)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert torch.equal(iou_per_class(counts[order][:, order]), iou_per_class(counts)[order])


def test_top1_and_top5_count_the_largest_logits() -> None:
    logits = torch.arange(10.0).repeat(4, 1)  # the ranking is 9, 8, 7, 6, 5
    accuracy = TopAccuracy()
    accuracy.update(logits, torch.tensor([9, 8, 5, 4]))
    assert (accuracy.top1, accuracy.top5, accuracy.images) == (25.0, 75.0, 4)


def test_counts_of_parts_add_up_to_the_whole() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(50, 8), torch.randint(0, 8, (50,))
    whole = TopAccuracy()
    whole.update(logits, labels)
    parts = []
    for start in (0, 20, 30):
        part = TopAccuracy()
        stop = {0: 20, 20: 30, 30: 50}[start]
        part.update(logits[start:stop], labels[start:stop])
        parts.append(part.to_counts())
    total = TopAccuracy.from_counts(torch.stack(parts).sum(0))
    assert (total.top1, total.top5, total.images) == (whole.top1, whole.top5, whole.images)
    assert math.isclose(total.loss, torch.nn.functional.cross_entropy(logits, labels).item(), rel_tol=1e-6)


def test_few_classes_and_zero_counts_are_accepted() -> None:
    accuracy = TopAccuracy()
    assert math.isnan(accuracy.top1)
    assert math.isnan(accuracy.top5)
    assert math.isnan(accuracy.loss)
    accuracy.update(torch.eye(3), torch.tensor([0, 1, 0]))
    assert (accuracy.first, accuracy.among_five) == (2, 3)
