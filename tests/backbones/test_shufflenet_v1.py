from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segmnv2.backbones.shufflenet import ShuffleNetV1, ShuffleUnit, shuffle_channels
from segmnv2.errors import ConfigError
from tests.backbones.reference import randomize_norms


def unit_outputs(backbone: ShuffleNetV1, x: Tensor) -> list[Tensor]:
    outputs: list[Tensor] = []
    units = [module for module in backbone.modules() if isinstance(module, ShuffleUnit)]
    hooks = [unit.register_forward_hook(lambda _m, _i, out: outputs.append(out)) for unit in units]
    with torch.no_grad():
        backbone(x)
    for hook in hooks:
        hook.remove()
    return outputs


@pytest.mark.parametrize("fine", [8, 16])
def test_atrous_consistency_unit_by_unit(fine: int) -> None:
    """A finer output stride computes the coarser one's features, and more of them between."""
    torch.manual_seed(0)
    backbone = ShuffleNetV1(output_stride=32).double().eval()
    randomize_norms(backbone)
    x = torch.randn(1, 3, 129, 97, dtype=torch.float64)
    coarse = unit_outputs(backbone, x)
    backbone.set_output_stride(fine)
    dense = unit_outputs(backbone, x)
    assert len(coarse) == len(dense) == 16
    steps = set()
    for index, (few, many) in enumerate(zip(coarse, dense, strict=True)):
        step = (many.shape[-1] - 1) // (few.shape[-1] - 1)
        steps.add(step)
        torch.testing.assert_close(many[..., ::step, ::step], few, rtol=1e-9, atol=1e-9, msg=f"unit {index}")
    assert max(steps) == 32 // fine


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


def test_output_stride_goes_there_and_back() -> None:
    backbone = ShuffleNetV1(width=0.5, output_stride=16).eval()
    x = torch.randn(1, 3, 65, 65)
    before = [f.detach() for f in backbone(x)]
    backbone.set_output_stride(8)
    backbone.set_output_stride(16)
    for a, b in zip(before, backbone(x), strict=True):
        assert torch.equal(a, b)


def test_gradients_reach_every_parameter() -> None:
    backbone = ShuffleNetV1(width=0.5, output_stride=8).train()
    sum(feature.square().mean() for feature in backbone(torch.randn(2, 3, 65, 65))).backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in backbone.parameters())


def test_it_exports_with_dynamic_sides() -> None:
    backbone = ShuffleNetV1(width=0.25, output_stride=8).eval()
    side = torch.export.Dim("k", min=2, max=40)
    program = torch.export.export(backbone, (torch.randn(1, 3, 65, 65),), dynamic_shapes=({2: 16 * side + 1, 3: 65},))
    x = torch.randn(1, 3, 97, 65)
    for ours, exported in zip(backbone(x), program.module()(x), strict=True):
        torch.testing.assert_close(ours, exported)


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
