from __future__ import annotations

import pytest
import torch

from segmnv2.errors import ConfigError
from segmnv2.nn.blocks import SHORTCUTS, InvertedResidual


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


def test_the_switches_of_figure_6_add_no_weight_and_keep_the_others() -> None:
    plain = InvertedResidual(8, 8, expansion=6, stride=1).eval()
    x = torch.randn(2, 8, 9, 9)
    projected = plain.project(plain.depthwise(plain.widen(x)))
    assert torch.equal(plain(x), x + projected)
    for activation in (False, True):
        for shortcut in SHORTCUTS:
            block = InvertedResidual(8, 8, expansion=6, stride=1, bottleneck_activation=activation, shortcut=shortcut)
            block.load_state_dict(plain.state_dict())
            out = projected.clamp(0, 6) if activation else projected
            assert torch.equal(block.eval()(x), x + out if shortcut == "bottleneck" else out)


def test_an_expansion_that_is_given_takes_the_place_of_its_own() -> None:
    block = InvertedResidual(8, 8, expansion=6, stride=1, shortcut="expansion").eval()
    x, before = torch.randn(1, 8, 9, 9), torch.rand(1, 48, 9, 9)
    wide = block.widen(x)
    assert torch.equal(block(x, wide), block(x))
    assert torch.equal(block(x, wide + before), block.project(block.depthwise(wide + before)))


def test_an_unknown_switch_is_refused() -> None:
    with pytest.raises(ConfigError, match="shortcut 'dense' is unknown; allowed are bottleneck, expansion, none"):
        InvertedResidual(8, 8, expansion=6, stride=1, shortcut="dense")
