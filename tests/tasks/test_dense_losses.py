"""Losses that select no pixels, as on GPUs, compared on the CPU with those of smp, which do."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from segmnv2.losses import LOSSES, OnDevice
from segmnv2.tasks.loss import mean_of_largest

CLASSES, IGNORED = 5, 255


def case(ignored: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, CLASSES, 9, 7, generator=generator)
    mask = torch.randint(0, CLASSES - 1, (2, 9, 7), generator=generator)  # one class is absent
    mask[torch.rand(mask.shape, generator=generator) < ignored] = IGNORED
    return logits.requires_grad_(), mask


def both(name: str, gamma: float) -> tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]:
    loss = LOSSES[name](IGNORED, gamma)
    assert isinstance(loss, OnDevice)
    return loss, lambda logits, mask: loss.dense(logits, mask, IGNORED)


@pytest.mark.parametrize("name", ["focal", "lovasz"])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("ignored", [0.0, 0.4])
def test_value_and_gradient_equal_smps(name: str, gamma: float, ignored: float) -> None:
    logits, mask = case(ignored)
    found = [loss(logits, mask) for loss in both(name, gamma)]
    torch.testing.assert_close(*found)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in found))


@pytest.mark.parametrize("name", ["focal", "lovasz"])
def test_losses_without_pixels_are_zero(name: str) -> None:
    logits, mask = case(1.1)
    loss = both(name, 2.0)[1](logits, mask)
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("name", ["focal", "lovasz"])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_gradients_are_finite_where_a_pixel_is_certain(name: str, gamma: float) -> None:
    certain = (1e4 * case(0.0)[0].detach()).requires_grad_()
    both(name, gamma)[1](certain, certain.argmax(1)).backward()
    assert certain.grad is not None
    assert bool(certain.grad.isfinite().all())


@pytest.mark.parametrize("share", [0.01, 0.25, 0.999])
@pytest.mark.parametrize("counted", [0, 1, 70, 100])
def test_the_mean_of_the_largest_equals_topk(share: float, counted: int) -> None:
    values = torch.rand(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values[counted:] = 0
    expected = values.topk(max(1, math.ceil(share * counted))).values.mean()
    torch.testing.assert_close(mean_of_largest(values, share, torch.tensor(counted)), expected)
