from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from segmnv2.backbones.timm import TimmBackbone, fit, timm_normalization
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.nn.stride import OUTPUT_STRIDES
from tests.backbones.reference import randomize_norms

EXACT = ("resnet18", "mobilenetv2_050")


def run(backbone: TimmBackbone, x: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        features: tuple[Tensor, ...] = backbone(x)
    return features


@pytest.mark.parametrize("output_stride", OUTPUT_STRIDES)
@pytest.mark.parametrize("model", EXACT)
def test_features_are_timms_with_the_stated_channels_and_strides(model: str, output_stride: int) -> None:
    backbone = TimmBackbone(model=model, output_stride=output_stride).eval()
    theirs: Any = timm.create_model(model, features_only=True, output_stride=output_stride).eval()
    theirs.load_state_dict(backbone.network.state_dict())
    assert [f.channels for f in backbone.feature_info] == theirs.feature_info.channels()
    assert [f.stride for f in backbone.feature_info] == theirs.feature_info.reduction()
    assert backbone.feature_info[-1].stride == output_stride
    x = torch.randn(1, 3, 97, 65)
    for feature, info, their in zip(run(backbone, x), backbone.feature_info, run(theirs, x), strict=True):
        assert feature.shape == (1, info.channels, -(-97 // info.stride), -(-65 // info.stride))
        assert torch.equal(feature, their)


@pytest.mark.parametrize(
    ("model", "output_stride"),
    [("convnext_atto", 16), ("vgg11", 32), ("vit_tiny_patch16_224", 16), ("swin_s3_tiny_224", 32)],
)
@pytest.mark.parametrize("sides", [(97, 65), (64, 96)])
def test_models_that_round_down_or_want_a_fixed_size_take_every_size(
    model: str, output_stride: int, sides: tuple[int, int]
) -> None:
    backbone = TimmBackbone(model=model, output_stride=output_stride).eval()
    for feature, info in zip(run(backbone, torch.randn(1, 3, *sides)), backbone.feature_info, strict=True):
        assert feature.shape == (1, info.channels, *(-(-side // info.stride) for side in sides))


@pytest.mark.parametrize("model", EXACT)
def test_finer_features_contain_the_coarser_ones(model: str) -> None:
    torch.manual_seed(0)
    backbone = TimmBackbone(model=model).double().eval()
    randomize_norms(backbone)
    x = torch.randn(1, 3, 97, 65, dtype=torch.float64)
    coarse = run(backbone, x)[-1]
    assert coarse.std() > 1e-3
    for output_stride in (16, 8):
        backbone.set_output_stride(output_stride)
        step = 32 // output_stride
        torch.testing.assert_close(run(backbone, x)[-1][..., ::step, ::step], coarse, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("model", EXACT)
def test_gradients_reach_every_parameter(model: str) -> None:
    backbone = TimmBackbone(model=model, output_stride=16).train()
    randomize_norms(backbone)  # timm starts the last norm of resnet's blocks at 0, which stops gradients
    torch.stack([f.square().mean() for f in backbone(torch.randn(2, 3, 65, 65))]).sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in backbone.parameters())


@pytest.mark.parametrize("model", [*EXACT, "convnext_atto"])
def test_it_exports_with_a_dynamic_side(model: str) -> None:
    backbone = TimmBackbone(model=model, output_stride=16).eval()
    side = torch.export.Dim("k", min=2, max=40)
    program = torch.export.export(backbone, (torch.randn(1, 3, 65, 65),), dynamic_shapes=({2: 16 * side + 1, 3: 65},))
    x = torch.randn(1, 3, 97, 65)
    for ours, exported in zip(run(backbone, x), program.module()(x), strict=True):
        torch.testing.assert_close(ours, exported)


@pytest.mark.parametrize("model", [*EXACT, "resnet18d", "tf_efficientnet_b0", "xception41"])
def test_output_stride_goes_there_and_back(model: str) -> None:
    backbone = TimmBackbone(model=model, output_stride=16).eval()
    x = torch.randn(1, 3, 65, 65)
    before = run(backbone, x)
    backbone.set_output_stride(8)
    assert run(backbone, x)[-1].shape[-1] == 9
    backbone.set_output_stride(16)
    assert all(torch.equal(a, b) for a, b in zip(before, run(backbone, x), strict=True))


def test_a_change_of_the_output_stride_keeps_tensors_modes_and_random_state() -> None:
    backbone = TimmBackbone(model="mobilenetv2_050").to(torch.bfloat16)
    backbone.network.bn1.eval()
    backbone.network.bn1.momentum = 0.003
    backbone.network.conv_stem.weight.requires_grad_(False)
    parameters = {name: (id(p), p.requires_grad) for name, p in backbone.named_parameters()}
    tensors = {key: value.data_ptr() for key, value in backbone.state_dict().items()}
    modes = {name: module.training for name, module in backbone.named_modules()}
    state = torch.get_rng_state()

    backbone.set_output_stride(8)

    assert torch.equal(torch.get_rng_state(), state)
    assert {name: (id(p), p.requires_grad) for name, p in backbone.named_parameters()} == parameters
    assert {key: value.data_ptr() for key, value in backbone.state_dict().items()} == tensors
    assert list(backbone.state_dict()) == list(tensors)
    assert {name: module.training for name, module in backbone.named_modules()} == modes
    assert backbone.network.bn1.momentum == 0.003
    assert {t.dtype for t in backbone.parameters()} == {torch.bfloat16}
    assert not any(t.is_meta for t in (*backbone.parameters(), *backbone.buffers()))


def test_an_optimizer_made_before_a_change_trains_the_network_after_it() -> None:
    backbone = TimmBackbone(model="mobilenetv2_050", output_stride=32)
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
    backbone.set_output_stride(16)
    before = copy.deepcopy(backbone.state_dict())
    last = backbone(torch.randn(2, 3, 65, 65))[-1]
    (last * torch.randn_like(last)).sum().backward()
    optimizer.step()
    assert not any(torch.equal(p, before[name]) for name, p in backbone.named_parameters())


def test_changed_layers_are_refused_and_left_as_they_were() -> None:
    backbone = TimmBackbone(model="resnet18")
    backbone.network.extra = nn.Linear(1, 1)
    network = backbone.network
    with pytest.raises(ConfigError, match="build the backbone with that output_stride"):
        backbone.set_output_stride(8)
    assert backbone.network is network
    assert backbone.output_stride == 32


def test_building_an_unknown_model_or_weights_names_the_close_ones() -> None:
    with pytest.raises(ConfigError, match=r"did you mean.*resnet18"):
        TimmBackbone(model="resnet_18")
    with pytest.raises(ConfigError, match=r"it has .*a1_in1k"):
        TimmBackbone(model="resnet18.a1_in2k")
    with pytest.raises(ConfigError, match="not a model"):
        TimmBackbone(model="hf-hub:someone/something")


@pytest.mark.parametrize(
    ("model", "output_stride", "message"),
    [
        ("vgg11", 16, "output_stride 16 .*'vgg11'.* can have 32"),
        ("vit_tiny_patch16_224", 32, "can have 16"),
        ("swin_s3_tiny_224", 8, "can have 32"),
        ("mixer_b16_224", 16, "any output_stride .*224.*choose a model"),
        ("levit_128", 32, "any output_stride .*stride of 64.*choose a model"),
        ("resnet18", 4, "allowed are 8, 16, 32"),
    ],
)
def test_an_output_stride_out_of_reach_names_those_within(model: str, output_stride: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TimmBackbone(model=model, output_stride=output_stride)


def test_a_refused_output_stride_leaves_the_network_as_it_was() -> None:
    backbone = TimmBackbone(model="ghostnet_050").eval()
    x = torch.randn(1, 3, 65, 65)
    before = run(backbone, x)
    with pytest.raises(ConfigError, match="can have 32"):
        backbone.set_output_stride(8)
    assert backbone.output_stride == 32
    assert all(torch.equal(a, b) for a, b in zip(before, run(backbone, x), strict=True))


def test_weights_that_cannot_be_had_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def offline(model: str, *, pretrained: bool = False, **arguments: Any) -> nn.Module:
        if pretrained:
            raise OSError("no route to host")
        return create(model, pretrained=False, **arguments)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError, match=r"resnet18.*no route to host.*pretrained: false"):
        TimmBackbone(model="resnet18", pretrained=True)


def test_text_is_no_switch_for_pretrained_weights() -> None:
    with pytest.raises(ConfigError, match=r"pretrained 'no' .*give true or false"):
        TimmBackbone(model="resnet18", pretrained="no")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_a_file_that_would_run_code_is_not_unpickled_whatever_timm_asks_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sprung, weights = tmp_path / "sprung", tmp_path / "weights.pth"
    torch.save({"weight": Trap(sprung)}, weights)
    create = timm.create_model

    def careless(model: str, *, pretrained: bool = False, **arguments: Any) -> nn.Module:
        if pretrained:
            torch.load(weights, weights_only=False)
        return create(model, pretrained=False, **arguments)

    monkeypatch.setattr(timm, "create_model", careless)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(WeightsError, match="resnet18"):
        TimmBackbone(model="resnet18", pretrained=True)
    assert not sprung.exists()
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    torch.load(weights, weights_only=False)
    assert sprung.exists()  # the trap works


def test_normalization_is_the_one_of_the_weights() -> None:
    mean, std = timm_normalization("resnet18")
    assert mean == pytest.approx((123.675, 116.28, 103.53))
    assert std == pytest.approx((58.395, 57.12, 57.375))
    assert timm_normalization("vit_tiny_patch16_224")[0] == pytest.approx((127.5,) * 3)
    with pytest.raises(ConfigError, match="not a model"):
        timm_normalization("resnet_18")


def test_looking_for_a_fit_draws_no_random_numbers() -> None:
    state = torch.get_rng_state()
    fit("regnetx_002", 16)
    assert torch.equal(torch.get_rng_state(), state)


def test_importing_the_module_does_not_import_timm() -> None:
    code = "import sys, segmnv2.backbones.timm; sys.exit('timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
