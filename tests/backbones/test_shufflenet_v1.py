from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segmnv2.backbones.shufflenet import ShuffleNetV1, ShuffleUnit, shuffle_channels
from segmnv2.errors import ConfigError


@pytest.mark.parametrize(
    ("width", "parameters", "madds"),
    [(0.5, 0.7e6, 38e6), (1.0, 1.9e6, 138e6), (1.5, 3.4e6, 292e6), (2.0, 5.4e6, 524e6)],
)
def test_the_published_classifiers_parameters_and_multiply_adds(width: float, parameters: float, madds: float) -> None:
    """To the printed digits: MobileNetV2's Table 4, and the README of Megvii's code."""
    with torch.device("meta"):
        backbone = ShuffleNetV1(width=width).eval()
        logits = nn.Linear(backbone.feature_info[-1].channels, 1000, bias=False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits(backbone(torch.empty(1, 3, 224, 224, device="meta"))[-1].mean((2, 3)))
    counted = sum(p.numel() for module in (backbone, logits) for p in module.parameters())
    assert counted == pytest.approx(parameters, abs=0.05e6)
    assert counter.get_total_flops() / 2 == pytest.approx(madds, abs=0.6e6)


@pytest.mark.parametrize(("groups", "channels"), [(1, 144), (2, 200), (3, 240), (4, 272), (8, 384)])
def test_channels_of_the_papers_table_1(groups: int, channels: int) -> None:
    expected = [24, 24, channels, 2 * channels, 4 * channels]
    with torch.device("meta"):
        assert [f.channels for f in ShuffleNetV1(groups=groups).feature_info] == expected


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("width", [0.25, 0.5, 0.7, 1.5, 4.0])
def test_any_width_goes_with_any_groups(width: float, groups: int) -> None:
    with torch.device("meta"):
        backbone = ShuffleNetV1(width=width, groups=groups, output_stride=16)
        features = backbone.eval()(torch.empty(1, 3, 33, 40))
    assert [(f.shape[1], f.shape[2], f.shape[3]) for f in features] == [
        (info.channels, -(-33 // info.stride), -(-40 // info.stride)) for info in backbone.feature_info
    ]


def test_only_the_very_first_pointwise_convolution_is_not_grouped() -> None:
    backbone = ShuffleNetV1()
    groups = [m.reduce.conv.groups for m in backbone.modules() if isinstance(m, ShuffleUnit)]
    assert groups == [1] + 15 * [3]


@pytest.mark.parametrize("options", [{"width": 0.1}, {"width": 9.0}, {"groups": 5}, {"output_stride": 12}])
def test_impossible_arguments_name_the_allowed_ones(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        ShuffleNetV1(**options)  # type: ignore[arg-type]


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
