from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from segmnv2.engines.pytorch import InferenceNetwork, fold_norms

CASES = [
    ("deeplabv3_mobilenet_v2", {"width": 0.35}),
    ("deeplabv3_mobilenet_v2_aspp", {"width": 0.35, "output_stride": 8}),
    ("deeplabv3_mobilenet_v1", {"width": 0.25}),
    ("deeplabv3_resnet101", {}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
@torch.inference_mode()
def test_the_copy_without_batch_norms_gives_equal_logits(make_model, name, options):
    model = make_model(name, **options).double()  # folding changes the rounding, which is not tested here
    network = InferenceNetwork(model)
    pixels = torch.rand(2, 3, 65, 97, dtype=torch.float64) * 255
    expected = model.raw_logits(pixels)
    torch.testing.assert_close(network(pixels), expected)
    assert not [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def test_the_original_model_is_unchanged(model):
    before = copy.deepcopy(model.state_dict())
    InferenceNetwork(model)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_norms_that_cannot_be_folded_are_kept():
    norm: Any = nn.BatchNorm2d(3)
    chain = nn.Sequential(norm, nn.Conv2d(3, 4, 1)).eval()
    nn.init.uniform_(norm.running_mean)
    x = torch.rand(1, 3, 5, 5)
    assert torch.equal(fold_norms(chain)(x), chain(x))
