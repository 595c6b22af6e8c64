from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from segmnv2.config.training_sections import LossSection
from segmnv2.datasets.shapes import SHAPES_LABELS
from segmnv2.models.zoo import create_model
from segmnv2.tasks.loss import SegmentationLoss, summed_cross_entropy


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [(33, 49), (30, 40)])
def test_value_and_gradient_equal_torchs_of_the_upsampled_logits(weighted: bool, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    raw = (3 * torch.randn(3, 5, 3, 4, generator=generator, dtype=torch.float64)).requires_grad_()
    targets = torch.randint(0, 5, (3, *size), generator=generator)
    targets[torch.rand(targets.shape, generator=generator) < 0.3] = 255
    weight = torch.rand(5, generator=generator, dtype=torch.float64) if weighted else None
    upsampled = F.interpolate(raw, size=(33, 49), mode="bilinear", align_corners=True)[..., : size[0], : size[1]]
    theirs = F.cross_entropy(upsampled, targets, weight=weight, ignore_index=255, reduction="sum")
    ours = summed_cross_entropy(raw, targets, 16, 255, weight)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(0.7 * loss, raw)[0] for loss in (ours, theirs)))


def test_nothing_of_full_size_is_kept_for_the_backward_pass() -> None:
    raw = torch.randn(2, 5, 3, 3, requires_grad=True)
    loss = summed_cross_entropy(raw, torch.zeros(2, 33, 33, dtype=torch.int64), 16, 255)
    assert [tensor.shape for tensor in loss.grad_fn.saved_tensors] == [raw.shape]
    assert loss.grad_fn.next_functions[0][0].variable is raw


@pytest.mark.parametrize("factors", [{}, {"dice": 1.0}, {"hard_pixels": 0.5}])
@pytest.mark.parametrize("side", [49, 40])
def test_the_loss_of_raw_logits_equals_that_of_the_models_output(factors: dict[str, Any], side: int) -> None:
    torch.manual_seed(0)
    model = create_model("deeplabv3_mobilenet_v2", labels=SHAPES_LABELS, width=0.35)
    loss_of = SegmentationLoss(LossSection(**factors), SHAPES_LABELS)
    pixels = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    mask = torch.randint(0, SHAPES_LABELS.num_classes, (2, side, side), dtype=torch.uint8)
    model.eval()
    expected = loss_of(model(pixels), mask)
    torch.testing.assert_close(loss_of(model.raw_logits(pixels), mask, model.output_stride), expected)
