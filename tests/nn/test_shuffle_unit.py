from __future__ import annotations

import pytest
import torch
from torch import nn

from segmnv2.nn.shuffle_unit import ShuffleUnit, shuffle_channels


@pytest.mark.parametrize("groups", [1, 2, 3, 4])
def test_shuffling_is_torchs(groups: int) -> None:
    x = torch.randn(2, 24, 3, 5)
    assert torch.equal(shuffle_channels(x, groups), nn.ChannelShuffle(groups)(x))


def test_every_output_of_a_grouped_unit_depends_on_every_input() -> None:
    """What the shuffle is for: without it, a group of outputs would see one group of inputs only."""
    torch.manual_seed(0)
    unit = ShuffleUnit(6, 36, groups=3, stride=2, first_grouped=True).double().eval()
    unit.reduce.activation = nn.Identity()  # else a value below zero could hide a path
    x = torch.randn(1, 6, 3, 3, dtype=torch.float64)

    def residual(x: torch.Tensor) -> torch.Tensor:
        hidden = shuffle_channels(unit.reduce(x), unit.groups)
        return unit.expand(unit.depthwise(hidden)).sum((0, 2, 3))

    jacobian = torch.autograd.functional.jacobian(residual, x).abs().sum((1, 3, 4))
    assert jacobian.shape == (30, 6)
    assert bool((jacobian > 0).all())


def test_a_striding_unit_puts_the_averaged_input_first() -> None:
    unit = ShuffleUnit(6, 24, groups=3, stride=2, first_grouped=True).eval()
    x = torch.rand(1, 6, 7, 8)
    out = unit(x)
    assert out.shape == (1, 24, 4, 4)
    torch.testing.assert_close(out[:, :6], nn.AvgPool2d(3, 2, padding=1)(x))


def test_a_unit_of_stride_one_adds_its_input() -> None:
    unit = ShuffleUnit(24, 24, groups=3, stride=1, first_grouped=True).eval()
    nn.init.zeros_(unit.expand.conv.weight)
    x = torch.randn(1, 24, 5, 5)
    assert torch.equal(unit(x), x.relu())
