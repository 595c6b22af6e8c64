from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from segmnv2.errors import ConfigError
from segmnv2.nn.blocks import BLOCK_KINDS, SHORTCUTS, InvertedResidual, create_block
from segmnv2.nn.conv import make_divisible


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


def test_the_options_of_figure_6_do_not_change_the_weights() -> None:
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


def test_a_given_expansion_replaces_that_of_the_block() -> None:
    block = InvertedResidual(8, 8, expansion=6, stride=1, shortcut="expansion").eval()
    x, before = torch.randn(1, 8, 9, 9), torch.rand(1, 48, 9, 9)
    wide = block.widen(x)
    assert torch.equal(block(x, wide), block(x))
    assert torch.equal(block(x, wide + before), block.project(block.depthwise(wide + before)))


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ConfigError, match="shortcut 'dense' is unknown; allowed are bottleneck, expansion, none"):
        InvertedResidual(8, 8, expansion=6, stride=1, shortcut="dense")


def block_madds(kind: str, into: int, out: int, size: tuple[int, int], stride: int = 1, expansion: int = 6) -> int:
    """Return the multiply-adds by the paper's formulas (sections 3.1 and 3.3); a stride follows the expansion."""
    before = size[0] * size[1]
    after = -(-size[0] // stride) * -(-size[1] // stride)
    if kind == "regular":
        return after * into * out * 9
    if kind != "bottleneck" or expansion == 1:
        return after * into * (9 + out)
    hidden = make_divisible(into * expansion)
    return before * into * hidden + after * hidden * (9 + out)


@pytest.mark.parametrize("kind", BLOCK_KINDS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("expansion", [1, 6])
def test_multiply_adds_are_those_of_the_papers_formulas(kind: str, stride: int, expansion: int) -> None:
    block = create_block(kind, 16, 24, stride=stride, expansion=expansion).eval()
    with FlopCounterMode(display=False) as counter:
        out = block(torch.randn(1, 16, 9, 13))
    assert out.shape == (1, 24, -(-9 // stride), -(-13 // stride))
    assert counter.get_total_flops() // 2 == block_madds(kind, 16, 24, (9, 13), stride=stride, expansion=expansion)


def test_a_separable_block_needs_about_a_ninth_of_the_multiply_adds() -> None:
    """The paper's factor for many channels is k squared."""
    regular, separable = (block_madds(kind, 512, 512, (14, 14)) for kind in ("regular", "separable"))
    assert 8 < regular / separable < 9


@pytest.mark.parametrize("kind", BLOCK_KINDS)
def test_only_bottlenecks_are_linear(kind: str) -> None:
    out = create_block(kind, 8, 12).eval()(torch.randn(2, 8, 9, 9)).detach()
    linear = kind in ("separable_linear", "bottleneck")
    assert bool((out < 0).any()) is linear
    if not linear:
        assert float(out.max()) <= 6


@pytest.mark.parametrize("kind", BLOCK_KINDS)
def test_a_dilated_block_contains_the_samples_of_the_strided_one(kind: str) -> None:
    """Two blocks in a row: if the stride of the first is replaced, the second is dilated."""
    torch.manual_seed(0)
    first, second = (create_block(kind, 8, 8, stride=stride).double().eval() for stride in (2, 1))
    x = torch.randn(1, 8, 17, 13, dtype=torch.float64)
    coarse = second(first(x))
    first.set_stride_and_dilation(1, 1)
    second.set_stride_and_dilation(1, 2)
    torch.testing.assert_close(second(first(x))[..., ::2, ::2], coarse)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "dense"}, "block kind 'dense' is unknown; allowed are regular, separable"),
        ({"stride": 3}, "stride 3 is not possible; allowed are 1 and 2"),
        ({"expansion": 0}, "expansion 0 is not positive"),
        ({"in_channels": 0}, "in_channels 0 is not positive"),
    ],
)
def test_impossible_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_block(**{"kind": "bottleneck", "in_channels": 8, "out_channels": 8, **change})
