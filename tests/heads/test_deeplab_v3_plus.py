from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segmnv2.errors import ConfigError, WeightsError
from segmnv2.heads.deeplab_v3_plus import DeepLabV3PlusHead
from segmnv2.models.model_file import load_model, load_weights, save_model
from segmnv2.models.zoo import create_model
from tests.backbones.reference import randomize_norms

NAME = "deeplabv3plus_mobilenet_v2_aspp"


def reference(state: dict[str, Tensor], low: Tensor, high: Tensor, output_stride: int, refinements: int) -> Tensor:
    """Compute DeepLabv3+'s head as its paper states it, from plain functions."""

    def layer(name: str, x: Tensor, dilation: int = 1) -> Tensor:
        weight = state[f"{name}.conv.weight"]
        reach = dilation * (weight.shape[-1] // 2)
        x = F.conv2d(x, weight, None, 1, reach, dilation, groups=1 if weight.shape[1] > 1 else weight.shape[0])
        names = ("running_mean", "running_var", "weight", "bias")
        mean, variance, scale, shift = (state[f"{name}.norm.{each}"] for each in names)
        return F.relu(F.batch_norm(x, mean, variance, scale, shift, eps=1e-5))

    image = layer("aspp.image_pooling", high.mean((2, 3), keepdim=True)).expand(-1, -1, *high.shape[2:])
    rates = [rate * 16 // output_stride for rate in (6, 12, 18)]
    branches = [image, layer("aspp.pointwise", high)]
    branches += [layer(f"aspp.atrous.{n}", high, rate) for n, rate in enumerate(rates)]
    context = layer("projection", torch.cat(branches, 1))
    context = F.interpolate(context, low.shape[2:], mode="bilinear", align_corners=True)
    x = torch.cat([context, layer("low_level", low)], 1)
    for n in range(refinements):
        x = layer(f"decoder.{n}", x)
    return F.conv2d(x, state["logits.weight"], state["logits.bias"])


@pytest.mark.parametrize(("output_stride", "separable"), [(16, False), (8, True)])
@torch.inference_mode()
def test_it_computes_what_the_paper_states(output_stride: int, separable: bool) -> None:
    head = DeepLabV3PlusHead(24, 320, 21, aspp=True, output_stride=output_stride, separable=separable)
    randomize_norms(head)
    head = head.double().eval()
    low, high = torch.randn(2, 24, 33, 41).double(), torch.randn(2, 320, 9, 11).double()
    expected = reference(dict(head.state_dict()), low, high, output_stride, 4 if separable else 2)
    torch.testing.assert_close(head([low, high]), expected)


def test_a_backbone_without_features_at_stride_4_is_refused() -> None:
    with pytest.raises(ConfigError, match="DeepLabv3\\+ reads features at stride 4, and the backbone has 2, 8, 16"):
        DeepLabV3PlusHead.build([8, 8, 8], [2, 8, 16], 3, aspp=False, output_stride=16)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("refinements", 0),
        ("refinements", True),
        ("refinements", 2.0),
        ("separable", 1),
        ("separable", "false"),
        ("align_corners", 2),
        ("channels", 64),  # arguments beside the options, which the name and the backbone fix
        ("num_classes", 4),
        ("output_stride", 8),
    ],
)
def test_an_option_that_is_not_possible_is_refused(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=option):
        create_model(NAME, width=0.35, head_options={option: value})


def test_weights_of_a_head_with_other_options_are_refused(tmp_path) -> None:
    save_model(tmp_path / "a.safetensors", create_model(NAME, width=0.35, head_options={"align_corners": False}))
    with pytest.raises(WeightsError, match=r"head_options={'align_corners': False}"):
        load_weights(create_model(NAME, width=0.35), tmp_path / "a.safetensors")


def test_weights_of_a_head_with_the_same_options_are_loaded(tmp_path) -> None:
    file = save_model(tmp_path / "a.safetensors", create_model(NAME, width=0.35))
    options = {"refinements": 2, "separable": False}
    model = create_model(NAME, width=0.35, head_options=options, weights=file)
    options["separable"] = True  # the caller's
    load_model(save_model(tmp_path / "b.safetensors", model))


def test_what_files_and_engines_are_made_of_cannot_be_changed_afterwards() -> None:
    head: Any = create_model("deeplabv3plus_mobilenet_v2", num_classes=3, width=0.35).head
    with pytest.raises(AttributeError):
        head.align_corners = False
