from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segmnv2.config.training_sections import LossSection
from segmnv2.errors import ConfigError
from segmnv2.labels import LabelSet
from segmnv2.losses import LOSSES
from segmnv2.tasks.loss import SegmentationLoss

LABELS = LabelSet.numbered(5)
NOTHING = torch.full((1, 4, 4), 255, dtype=torch.uint8)
KINDS = ("cross_entropy", *LOSSES)
COMBINATIONS = [some for count in range(1, len(KINDS) + 1) for some in itertools.combinations(KINDS, count)]


def build(**values: Any) -> SegmentationLoss:
    return SegmentationLoss(LossSection(**values), LABELS)


def only(kind: str) -> SegmentationLoss:
    return build(**{"cross_entropy": 0.0, kind: 1.0})


def random_case(ignored: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 5, 9, 7, generator=generator)
    mask = torch.randint(0, 5, (2, 9, 7), generator=generator, dtype=torch.uint8)
    mask[torch.rand(mask.shape, generator=generator) < ignored] = 255
    return logits, mask


@pytest.mark.parametrize("ignored", [0.0, 0.5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_default_loss_equals_torchs_mean_cross_entropy(
    ignored: float, layout: torch.memory_format, weighted: bool
) -> None:
    logits, mask = random_case(ignored)
    weights = {LABELS.names[1]: 3.0, LABELS.names[4]: 0.2} if weighted else {}
    weight = torch.tensor([weights.get(name, 1.0) for name in LABELS.names])
    logits = logits.contiguous(memory_format=layout).requires_grad_()
    ours = build(class_weights=weights)(logits, mask)
    theirs = F.cross_entropy(logits, mask.long(), weight=weight, ignore_index=255)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)))


@pytest.mark.parametrize(
    "kinds", [c for n in range(1, len(KINDS) + 1) for c in itertools.combinations(KINDS, n)], ids="+".join
)
@pytest.mark.parametrize("hard_pixels", [1.0, 0.25])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_batch_without_labels_has_a_loss_and_a_gradient_of_zero(
    kinds: tuple[str, ...], hard_pixels: float, weighted: bool
) -> None:
    values: dict[str, Any] = {kind: float(kind in kinds) for kind in KINDS}
    if "cross_entropy" in kinds:
        values |= {"hard_pixels": hard_pixels, "class_weights": {LABELS.names[0]: 2.0} if weighted else {}}
    logits = torch.randn(1, 5, 4, 4, requires_grad=True)
    loss = build(**values)(logits, NOTHING)
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_gradients_are_finite_where_a_pixel_is_certain(kind: str, gamma: float) -> None:
    logits, _ = random_case(0.0)
    logits = (1e4 * logits).requires_grad_()
    mask = logits.detach().argmax(1).to(torch.uint8)
    build(**{"cross_entropy": 0.0, kind: 1.0, "gamma": gamma})(logits, mask).backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_a_gamma_without_a_finite_gradient_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gamma 0\.5 .* set gamma to 0, or to 1 or more"):
        build(focal=1.0, gamma=0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_ignored_pixels_do_not_change_the_loss(kind: str) -> None:
    logits, mask = random_case(0.5)
    changed = torch.where((mask == 255)[:, None], 100 * torch.randn_like(logits), logits)
    torch.testing.assert_close(only(kind)(changed, mask), only(kind)(logits, mask))


@pytest.mark.parametrize("kind", KINDS)
def test_each_loss_is_smallest_for_correct_logits_and_its_gradient_leads_there(kind: str) -> None:
    logits, mask = random_case(0.2)
    right = 60 * F.one_hot(torch.where(mask == 255, 0, mask).long(), 5).permute(0, 3, 1, 2).float() - 30
    loss_of = only(kind)
    assert float(loss_of(right, mask)) < 1e-3 < float(loss_of(logits, mask))
    moved = logits.clone().requires_grad_()
    loss_of(moved, mask).backward()
    assert moved.grad is not None
    assert float(loss_of(logits - 0.1 * moved.grad / moved.grad.norm(), mask)) < float(loss_of(logits, mask))


def test_losses_are_added_with_their_factors() -> None:
    logits, mask = random_case(0.3)
    total = build(cross_entropy=0.5, focal=2.0, dice=0.25, lovasz=3.0)(logits, mask)
    parts = {kind: only(kind)(logits, mask) for kind in ("cross_entropy", "focal", "dice", "lovasz")}
    expected = 0.5 * parts["cross_entropy"] + 2 * parts["focal"] + 0.25 * parts["dice"] + 3 * parts["lovasz"]
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_hard_pixels_are_those_with_the_largest_loss(share: float) -> None:
    logits, mask = random_case(0.4)
    each = F.cross_entropy(logits, mask.long(), ignore_index=255, reduction="none")[mask != 255]
    taken = math.ceil(share * each.numel())
    torch.testing.assert_close(build(hard_pixels=share)(logits, mask), each.sort(descending=True).values[:taken].mean())


def test_a_weight_of_an_unknown_class_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"loss\.class_weights: catt is not a class of the data; allowed are"):
        build(class_weights={"catt": 2.0})
