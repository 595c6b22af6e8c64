from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segmnv2.engine.loss import segmentation_loss


def random_case(ignored: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 5, 9, 7, generator=generator)
    mask = torch.randint(0, 5, (2, 9, 7), generator=generator, dtype=torch.uint8)
    mask[torch.rand(mask.shape, generator=generator) < ignored] = 255
    return logits, mask


@pytest.mark.parametrize("ignored", [0.0, 0.5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_is_torchs_mean_cross_entropy(ignored: float, layout: torch.memory_format) -> None:
    logits, mask = random_case(ignored)
    logits = logits.contiguous(memory_format=layout).requires_grad_()
    ours, theirs = segmentation_loss(logits, mask, 255), F.cross_entropy(logits, mask.long(), ignore_index=255)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)))


def test_nothing_to_learn_from_is_a_loss_of_zero_and_no_gradient() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 4, 4), 255, dtype=torch.uint8), 255)
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_ignored_pixels_change_nothing() -> None:
    logits, mask = random_case(0.5)
    changed = torch.where((mask == 255)[:, None], 100 * torch.randn_like(logits), logits)
    torch.testing.assert_close(segmentation_loss(changed, mask, 255), segmentation_loss(logits, mask, 255))
