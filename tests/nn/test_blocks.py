from __future__ import annotations

import pytest
import torch

from segmnv2.nn.blocks import InvertedResidual


@pytest.mark.parametrize(
    ("inputs", "outputs", "stride", "shortcut"), [(8, 8, 1, True), (8, 8, 2, False), (8, 16, 1, False)]
)
def test_only_blocks_that_keep_size_and_width_have_a_shortcut(
    inputs: int, outputs: int, stride: int, shortcut: bool
) -> None:
    block = InvertedResidual(inputs, outputs, expansion=6, stride=stride).eval()
    torch.nn.init.zeros_(block.project.norm.weight)
    x = torch.randn(1, inputs, 9, 9)
    out = block(x)
    assert block.shortcut is shortcut
    assert torch.equal(out, x) if shortcut else bool((out == 0).all())


def test_the_bottleneck_is_linear_in_its_projection() -> None:
    block = InvertedResidual(4, 6, expansion=6, stride=1).eval()
    assert bool((block(torch.randn(2, 4, 9, 9)) < 0).any())


def test_expansion_one_has_no_expansion_layer() -> None:
    assert InvertedResidual(8, 8, expansion=1, stride=1).expand is None


def test_expansion_is_rounded_to_a_multiple_of_eight() -> None:
    expand = InvertedResidual(11, 8, expansion=6, stride=1).expand
    assert expand is not None
    assert expand.conv.out_channels == 64
