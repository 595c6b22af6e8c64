from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from segmnv2.errors import ConfigError
from segmnv2.heads.deeplab_v3 import DeepLabV3Head


def test_parameters_are_the_papers() -> None:
    def count(*, aspp: bool) -> int:
        return sum(p.numel() for p in DeepLabV3Head(320, 21, aspp=aspp).parameters())

    branches = 3 * (320 * 256 * 9 + 2 * 256) + 3 * 256 * 256
    assert count(aspp=True) - count(aspp=False) == branches


@pytest.mark.parametrize(("output_stride", "rates"), [(32, (3, 6, 9)), (16, (6, 12, 18)), (8, (12, 24, 36))])
def test_rates_span_the_same_pixels_at_every_stride(output_stride: int, rates: tuple[int, ...]) -> None:
    head = DeepLabV3Head(8, 3, aspp=True, channels=4)
    head.set_output_stride(output_stride)
    atrous: Any = head.aspp.atrous
    assert tuple(branch.conv.dilation[0] for branch in atrous) == rates
    assert head([torch.randn(2, 8, 9, 7)]).shape == (2, 3, 9, 7)


def test_image_pooling_comes_first_and_reaches_every_place() -> None:
    head = DeepLabV3Head(4, 2, aspp=True, channels=6).eval()
    x = torch.randn(1, 4, 5, 5)
    first = head.aspp(x)[:, :6]
    torch.testing.assert_close(first, first[..., :1, :1].expand_as(first))
    with torch.no_grad():
        expected = head.aspp.image_pooling(x.mean((2, 3), keepdim=True))
    torch.testing.assert_close(first[..., :1, :1], expected)


def test_a_batch_of_one_trains() -> None:
    head = DeepLabV3Head(8, 3, aspp=True, channels=4).train()
    head([torch.randn(1, 8, 9, 9)]).sum().backward()
    assert all(p.grad is not None for p in head.parameters())


def test_norms_dropout_and_logits_are_deeplabs() -> None:
    head = DeepLabV3Head(320, 21, aspp=False)
    norms = [m for m in head.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(n.eps, n.momentum) for n in norms} == {(1e-5, 0.0003)}
    assert head.dropout.p == 0.1
    assert head.logits.weight.abs().max() <= 0.02
    assert head.logits.bias is not None
    assert not head.logits.bias.any()


def test_other_output_strides_are_refused() -> None:
    with pytest.raises(ConfigError, match="8, 16, 32"):
        DeepLabV3Head(8, 3, aspp=False, output_stride=4)
