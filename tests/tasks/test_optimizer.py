from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from segmnv2.config.training_sections import OptimizerSection
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model
from segmnv2.tasks.optimizer import build_optimizer, build_schedule, divide_parameters, parameter_groups, poly_factor


@pytest.fixture(params=["deeplabv3_mobilenet_v2", "deeplabv3_mobilenet_v2_aspp"], scope="module")
def model(request: pytest.FixtureRequest) -> Segmenter:
    return create_model(request.param, num_classes=3, width=0.35)


def test_groups_hold_every_parameter_exactly_once(model: Segmenter) -> None:
    grouped = [id(p) for group in parameter_groups(model, 0.1, 1e-4) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


def test_only_kernels_that_are_not_depthwise_decay(model: Segmenter) -> None:
    decayed = {id(p) for g in parameter_groups(model, 0.1, 1e-4) if g["weight_decay"] for p in g["params"]}
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            depthwise = module.groups == module.in_channels
            assert (id(module.weight) in decayed) is not depthwise
            assert id(module.bias) not in decayed
        if isinstance(module, nn.BatchNorm2d):
            assert not decayed & {id(module.weight), id(module.bias)}


@pytest.mark.parametrize(
    ("name", "not_decayed"),
    [
        ("test_vit", "pos_embed"),
        ("convnext_atto", "gamma"),
        ("test_nfnet", "gain"),
    ],
)
def test_weights_decay_by_kind_in_every_library(name: str, not_decayed: str) -> None:
    network = timm.create_model(name)
    decayed = {id(parameter) for parameter in divide_parameters(network)[0]}
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    assert linear
    assert all(id(module.weight) in decayed and id(module.bias) not in decayed for module in linear)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            depthwise = module.groups == module.in_channels > 1
            assert (id(module.weight) in decayed) is not depthwise
        elif "Norm" in type(module).__name__ and not list(module.children()):
            assert not decayed & {id(parameter) for parameter in module.parameters()}
    others = [p for key, p in network.named_parameters() if key.rpartition(".")[2] in (not_decayed, "cls_token")]
    assert others
    assert not decayed & {id(parameter) for parameter in others}


def test_only_the_last_bias_learns_twice_as_fast(model: Segmenter) -> None:
    fast = [p for g in parameter_groups(model, 0.1, 1e-4) if g["lr"] == 0.2 for p in g["params"]]
    assert len(fast) == 1
    assert fast[0] is model.head.logits.bias
    assert {g["lr"] for g in parameter_groups(model, 0.1, 1e-4)} == {0.1, 0.2}


def test_the_schedule_falls_from_one_to_zero() -> None:
    factors = [poly_factor(step, steps=10, power=0.9) for step in range(12)]
    assert factors[0] == 1
    assert factors[10] == factors[11] == 0
    assert factors == sorted(factors, reverse=True)
    assert factors[5] == pytest.approx(0.5**0.9)
    assert poly_factor(7, steps=10, power=0) == 1


def test_the_schedule_scales_all_groups_equally(model: Segmenter) -> None:
    section = OptimizerSection(lr=0.1)
    optimizer = build_optimizer(model, section)
    schedule = build_schedule(optimizer, section, steps=4)
    seen = []
    for _ in range(4):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    expected = torch.tensor([0.1, 0.1, 0.2]) * torch.tensor([[1.0], [0.75**0.9], [0.5**0.9], [0.25**0.9]])
    torch.testing.assert_close(torch.tensor(seen), expected)
    assert [group["lr"] for group in optimizer.param_groups] == [0, 0, 0]
