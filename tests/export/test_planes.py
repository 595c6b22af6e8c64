from __future__ import annotations

import pytest
import torch

from segmnv2.export.deployable import PlaneLabels
from segmnv2.nn.stride import upsample_logits

GENERATOR = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("size", [(33, 33), (30, 47), (2, 17)])
@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("classes", [1, 2, 21])
def test_labels_are_the_argmax_of_resized_logits(size, stride, classes):
    rows, columns = (-(-(side - 1) // stride) + 1 for side in size)
    logits = torch.randn(1, classes, rows, columns, generator=GENERATOR) * 4
    expected = upsample_logits(logits, stride, size).argmax(1)
    found = PlaneLabels(size, stride)(logits, torch.zeros(1, *size, 3, dtype=torch.uint8))
    assert found.dtype == torch.uint8
    assert found.shape == expected.shape
    assert (found == expected).float().mean() > 0.999


def test_the_lowest_of_equally_good_classes_is_chosen():
    logits = torch.tensor([1.0, 3.0, 3.0, 2.0, 3.0]).reshape(1, 5, 1, 1).expand(1, 5, 2, 2)
    found = PlaneLabels((9, 9), 8)(logits.contiguous(), torch.zeros(1, 9, 9, 3, dtype=torch.uint8))
    assert (found == 1).all()


def test_small_differences_of_logits_decide():
    logits = torch.tensor([1.0, 1.0 + 2**-23, 1.0]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    found = PlaneLabels((9, 9), 8)(logits.contiguous(), torch.zeros(1, 9, 9, 3, dtype=torch.uint8))
    assert (found == 1).all()
