from __future__ import annotations

import math

import torch

from segmnv2.metrics.accuracy import TopAccuracy


def test_top_one_and_top_five_count_what_their_names_say() -> None:
    logits = torch.arange(10.0).repeat(4, 1)  # the guesses are 9, 8, 7, 6, 5
    accuracy = TopAccuracy()
    accuracy.update(logits, torch.tensor([9, 8, 5, 4]))
    assert (accuracy.top1, accuracy.top5, accuracy.images) == (25.0, 75.0, 4)


def test_parts_add_up_to_the_whole() -> None:
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


def test_few_classes_and_nothing_counted() -> None:
    accuracy = TopAccuracy()
    assert math.isnan(accuracy.top1)
    assert math.isnan(accuracy.top5)
    assert math.isnan(accuracy.loss)
    accuracy.update(torch.eye(3), torch.tensor([0, 1, 0]))
    assert (accuracy.first, accuracy.among_five) == (2, 3)
