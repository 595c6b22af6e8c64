"""Laws of all registered heads."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from segmnv2.engines.int8 import float_layers
from segmnv2.engines.pytorch import InferenceNetwork
from segmnv2.errors import ConfigError
from segmnv2.heads.head import HEADS, model_name
from segmnv2.models.model_file import load_model, save_model
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model
from segmnv2.tasks.optimizer import parameter_groups
from tests.backbones.reference import randomize_norms

NAMES = sorted(HEADS)


def build(name: str, backbone: str = "mobilenet_v2", **options: Any) -> Segmenter:
    torch.manual_seed(0)
    model = create_model(model_name(name, backbone), num_classes=3, **{"width": 0.35, **options})
    randomize_norms(model)
    return model.eval()


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_logits_have_the_stated_stride(name: str, output_stride: int) -> None:
    model = build(name, output_stride=output_stride)
    pixels = torch.rand(1, 3, 70, 97) * 255
    rows, columns = (1 + -(-(side - 1) // output_stride) * output_stride // model.logits_stride for side in (70, 97))
    assert model.raw_logits(pixels).shape == (1, 3, rows, columns)
    assert model(pixels).shape == (1, 3, 70, 97)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_restoring_the_output_stride_restores_the_logits(name: str) -> None:
    model = build(name)
    pixels = torch.rand(1, 3, 65, 65) * 255
    before = model(pixels)
    model.set_output_stride(8)
    assert not torch.equal(before, model(pixels))
    model.set_output_stride(16)
    assert torch.equal(before, model(pixels))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    model = build(name).train()
    model(torch.rand(2, 3, 65, 65) * 255).square().mean().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_the_copy_for_inference_gives_equal_logits(name: str, output_stride: int) -> None:
    model = build(name, output_stride=output_stride).double()
    state = copy.deepcopy(model.state_dict())
    network = InferenceNetwork(model)
    pixels = torch.rand(2, 3, 65, 97, dtype=torch.float64) * 255
    torch.testing.assert_close(network(pixels), model.raw_logits(pixels))
    assert {*float_layers(model)} <= {name for name, _ in network.named_modules()}
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_the_last_bias_has_twice_the_learning_rate(name: str) -> None:
    model = build(name)
    groups = {group["name"]: group for group in parameter_groups(model, 1.0, 0.0)}
    assert [parameter.shape for parameter in groups["last bias"]["params"]] == [(3,)]
    assert groups["last bias"]["lr"] == 2.0


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_a_saved_model_gives_equal_logits(name: str, tmp_path: Path) -> None:
    model = build(name, output_stride=8)
    save_model(tmp_path / "model.safetensors", model)
    pixels = torch.rand(1, 3, 40, 50) * 255
    assert torch.equal(load_model(tmp_path / "model.safetensors")(pixels), model(pixels))


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"head '{name}' has no option color; it has "):
        build(name, head_options={"color": 1})
