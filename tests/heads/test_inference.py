from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from segmnv2.engines.pytorch import InferenceNetwork
from segmnv2.heads.deeplab_v3 import compose
from segmnv2.nn.conv import SameConv2d
from tests.engines.conftest import model_with_statistics


@pytest.mark.parametrize("biases", [(False, False), (True, False), (False, True), (True, True)])
@torch.inference_mode()
def test_one_convolution_computes_what_two_do(biases) -> None:
    first, second = SameConv2d(7, 3, bias=biases[0]).double(), SameConv2d(3, 5, bias=biases[1]).double()
    x = torch.randn(2, 7, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(compose(first, second)(x), second(first(x)))


@pytest.mark.parametrize(
    ("name", "options", "joined"),
    [
        ("deeplabv3_mobilenet_v2", {"width": 1.0}, True),
        ("deeplabv3_mobilenet_v2", {"width": 0.35}, False),  # where it would be more work
        ("deeplabv3_mobilenet_v2_aspp", {"width": 1.0}, False),  # whose dilated branches would read more channels
        ("deeplabv3_mobilenet_v1", {"width": 0.25}, False),  # which has no linear layer
    ],
)
@torch.inference_mode()
def test_the_last_projection_is_joined_where_that_is_less_work(name, options, joined) -> None:
    model = model_with_statistics(name, **options).double()
    network: Any = InferenceNetwork(model)
    reads = network.head.aspp.pointwise.conv.in_channels
    assert (reads != model.head.aspp.pointwise.conv.in_channels) == joined
    assert not joined or isinstance(network.backbone.blocks[-1].project, nn.Identity)
    pixels = torch.rand(2, 3, 65, 97, dtype=torch.float64) * 255
    torch.testing.assert_close(network(pixels), model.raw_logits(pixels))


@torch.inference_mode()
def test_a_last_layer_that_is_not_linear_stays() -> None:
    model = model_with_statistics("deeplabv3_mobilenet_v2", width=1.0)
    blocks: Any = model.backbone.blocks
    blocks[-1].project.activation = nn.ReLU6()
    assert InferenceNetwork(model).head.aspp.pointwise.conv.in_channels == 320
