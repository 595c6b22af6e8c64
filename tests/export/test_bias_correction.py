from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from segmnv2.engines.pytorch import InferenceNetwork
from segmnv2.export.mobile.executorch_file import correct_biases, round_weights
from tests.engines.conftest import smooth_pixels
from tests.export.shallow import shallow_model


def test_corrected_biases_keep_a_layers_mean_with_rounded_weights():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 8, 3, stride=2, padding=1).requires_grad_(False)
    images = [torch.rand(1, 3, 17, 23) + 1 for _ in range(4)]
    corrected = correct_biases(layer, images)
    assert torch.equal(corrected.weight, layer.weight)
    rounded: Any = copy.deepcopy(corrected)
    rounded.weight.copy_(round_weights(layer.weight))
    before, after = (torch.stack([each(x).mean((0, 2, 3)) for x in images]).mean(0) for each in (layer, rounded))
    torch.testing.assert_close(after, before)
    rounded.bias.copy_(layer.bias)
    without = torch.stack([rounded(x).mean((0, 2, 3)) for x in images]).mean(0)
    assert (without - before).abs().max() > 1e-3


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_rounded_weights_have_255_levels_and_errors_of_at_most_half_a_level(scale):
    weight = torch.randn(4, 9, 3, 3, generator=torch.Generator().manual_seed(0)) * scale
    step = weight.abs().amax((1, 2, 3), keepdim=True) / 127
    levels = round_weights(weight) / step
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert levels.abs().max() <= 127.001
    assert ((round_weights(weight) - weight).abs() <= step * 0.5001).all()


def test_weights_of_zero_stay_zero():
    assert torch.equal(round_weights(torch.zeros(2, 1, 3, 3)), torch.zeros(2, 1, 3, 3))


def test_only_biases_change_and_only_in_a_copy():
    network = InferenceNetwork(shallow_model())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    corrected = correct_biases(network, [smooth_pixels((1, 3, 65, 65))]).state_dict()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert {name for name, value in corrected.items() if not torch.equal(value, before[name])} == {
        name for name in before if name.endswith(".bias")
    }
