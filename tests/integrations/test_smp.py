"""This library's backbones below every architecture of segmentation_models_pytorch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from segmnv2.backbones.backbone import create_backbone
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.integrations.smp import BackboneEncoder, load_encoder_weights, register_encoder, register_encoders
from segmnv2.models.model_file import save_backbone
from segmnv2.models.pixels import IMAGENET_NORMALIZATION

SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "segmnv2-small_mobilenet_v1": ("mobilenet_v1", {"width": 0.25}),
    "segmnv2-small_mobilenet_v2": ("mobilenet_v2", {"width": 0.35}),
    "segmnv2-small_resnet101": ("resnet101", {"units": (2, 2, 2, 3)}),
    "segmnv2-small_shufflenet_v2": ("shufflenet_v2", {"width": 0.5}),
}
ALL_DEPTHS = (smp.Linknet, smp.FPN, smp.PSPNet, smp.UPerNet, smp.Segformer, smp.DeepLabV3, smp.DeepLabV3Plus)
BY_CHANNELS = (smp.Unet, smp.UnetPlusPlus, smp.MAnet)
STRIDED = {smp.DeepLabV3: (8, 16), smp.DeepLabV3Plus: (8, 16), smp.PAN: (16, 32)}
X = torch.randn(2, 3, 64, 96)


@pytest.fixture(scope="module", autouse=True)
def registered() -> tuple[str, ...]:
    for name, (backbone, options) in SMALL.items():
        register_encoder(name, backbone, **options)
    return register_encoders()


def build(architecture: Callable[..., Any], encoder: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return architecture(encoder, encoder_weights=None, classes=3, **options)


def check(model: nn.Module, x: torch.Tensor = X) -> None:
    """A mask of the image's shape comes out (at fewer maps some scale it otherwise), and the first layer learns."""
    out = model.train()(x)
    assert out.shape[:2] == (len(x), 3)
    assert out.shape[-1] * x.shape[-2] == out.shape[-2] * x.shape[-1]
    out.square().mean().backward()
    first = next(model.encoder.parameters())
    assert first.grad is not None
    assert float(first.grad.abs().sum()) > 0


def test_every_backbone_of_this_library_is_there(registered: tuple[str, ...]) -> None:
    assert {"segmnv2-mobilenet_v1", "segmnv2-mobilenet_v2", "segmnv2-resnet101"} <= set(registered)
    assert not any("timm" in name or "smp" in name for name in registered)
    assert set(registered) <= set(smp.encoders.get_encoder_names())
    assert register_encoders() == registered


@pytest.mark.parametrize("encoder", SMALL)
@pytest.mark.parametrize("architecture", [*ALL_DEPTHS, *BY_CHANNELS], ids=lambda each: each.__name__)
def test_every_architecture_takes_every_backbone(architecture: Callable[..., Any], encoder: str) -> None:
    check(build(architecture, encoder, encoder_depth=5))


@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize("architecture", [*ALL_DEPTHS, *BY_CHANNELS], ids=lambda each: each.__name__)
def test_every_architecture_takes_every_depth(architecture: Callable[..., Any], depth: int) -> None:
    channels = {"decoder_channels": (64, 32, 16, 8, 8)[:depth]} if architecture in BY_CHANNELS else {}
    check(build(architecture, "segmnv2-small_mobilenet_v2", encoder_depth=depth, **channels))


@pytest.mark.parametrize(
    ("architecture", "stride"),
    [(architecture, stride) for architecture, strides in STRIDED.items() for stride in strides],
    ids=lambda each: str(getattr(each, "__name__", each)),
)
def test_architectures_with_an_output_stride_get_the_backbones_own(
    architecture: Callable[..., Any], stride: int
) -> None:
    x = torch.randn(2, 3, 256, 256) if architecture is smp.PAN else X  # PAN pools three times behind the encoder
    model = build(architecture, "segmnv2-small_mobilenet_v2", encoder_output_stride=stride)
    assert model.encoder.backbone.output_stride == stride
    own = create_backbone("mobilenet_v2", output_stride=stride, width=0.35)
    own.load_state_dict(model.encoder.backbone.state_dict())
    with torch.no_grad():
        assert torch.equal(model.eval().encoder(x)[-1], own.eval()(x)[-1])
    check(model, x)


def test_unet_runs_as_its_users_write_it_and_dilates_by_the_argument_that_smp_hands_on() -> None:
    """smp's Unet takes ``encoder_output_stride`` and drops it; ``output_stride`` reaches the encoder."""
    dropped = build(smp.Unet, "segmnv2-small_mobilenet_v2", encoder_depth=5, encoder_output_stride=16)
    dilated = build(smp.Unet, "segmnv2-small_mobilenet_v2", encoder_depth=5, output_stride=16)
    assert (dropped.encoder.output_stride, dilated.encoder.output_stride) == (32, 16)
    for model in (dropped, dilated):
        assert model.eval()(X).shape == (2, 3, 64, 96)


@pytest.mark.parametrize("encoder", SMALL)
def test_features_are_the_backbones_own_last_ones_of_each_stride(encoder: str) -> None:
    model = build(smp.Unet, encoder).eval()
    backbone = model.encoder.backbone
    with torch.no_grad():
        image, *features = model.encoder(X)
        own = backbone(X)
    assert image is X
    assert list(model.encoder.out_channels) == [3, *(each.shape[1] for each in features)]
    assert [X.shape[-1] // each.shape[-1] for each in features] == [2, 4, 8, 16, 32]
    for feature in features:
        found = [each for each in own if each.shape == feature.shape]
        assert torch.equal(found[-1], feature)


def test_a_size_that_an_architecture_does_not_allow_is_its_own_error_and_others_are_taken() -> None:
    odd = torch.randn(1, 3, 70, 33)
    with pytest.raises(RuntimeError, match="divisible by 32"):
        build(smp.Linknet, "segmnv2-small_mobilenet_v2").eval()(odd)
    assert build(smp.UPerNet, "segmnv2-small_mobilenet_v2").eval().encoder(odd)[-1].shape[-2:] == (3, 2)


def test_export_gives_the_same() -> None:
    model = build(smp.FPN, "segmnv2-small_mobilenet_v2").eval()
    program = torch.export.export(model, (X,))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(X), model(X), rtol=1e-4, atol=1e-5)


def weights(folder: Path, **options: Any) -> tuple[Path, nn.Module]:
    backbone = create_backbone("mobilenet_v2", last_conv=True, **options)
    path = folder / "b.safetensors"
    save_backbone(path, backbone, "mobilenet_v2", {**options, "last_conv": True}, IMAGENET_NORMALIZATION)
    return path, backbone


def test_weights_come_with_their_normalization(tmp_path: Path) -> None:
    path, backbone = weights(tmp_path, width=0.35)
    model = build(smp.Unet, "segmnv2-small_mobilenet_v2")
    assert load_encoder_weights(model.encoder, path) == IMAGENET_NORMALIZATION
    theirs = backbone.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in model.encoder.backbone.state_dict().items())


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_channels_get_the_weights_that_smp_would_give_them(
    channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # signatures speak of three channels
    path, backbone = weights(tmp_path, width=0.35)
    model = build(smp.Unet, "segmnv2-small_mobilenet_v2", in_channels=channels).eval()
    load_encoder_weights(model.encoder, path)
    stem: Any = backbone.stem.conv.weight
    expected = stem.sum(1, keepdim=True) if channels == 1 else stem[:, [n % 3 for n in range(channels)]] * 3 / channels
    torch.testing.assert_close(model.encoder.backbone.stem.conv.weight, expected)
    assert model(torch.randn(1, channels, 64, 64)).shape == (1, 3, 64, 64)


def test_weights_that_do_not_fit_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    path, _ = weights(tmp_path, width=0.5)
    model = build(smp.Unet, "segmnv2-small_mobilenet_v2", in_channels=1).eval()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(WeightsError, match=r"width: 0\.5 in the file, 0\.35 in the model"):
        load_encoder_weights(model.encoder, path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model(torch.randn(1, 1, 64, 64)).shape == (1, 3, 64, 64)
    with pytest.raises(ConfigError, match="encoder is ResNetEncoder, not one of this library"):
        load_encoder_weights(smp.Unet("resnet18", encoder_weights=None).encoder, path)


def test_values_that_are_not_possible_are_named() -> None:
    with pytest.raises(ConfigError, match=r"encoder_depth 6 is not in 1\.\.5"):
        BackboneEncoder(backbone="mobilenet_v2", depth=6)
    with pytest.raises(ConfigError, match="begin it with 'segmnv2-'"):
        register_encoder("resnet18", "mobilenet_v2")
    with pytest.raises(ConfigError, match="no option widht"):
        register_encoder("segmnv2-mine", "mobilenet_v2", widht=0.5)
    with pytest.raises(ConfigError, match="output_stride 4"):
        smp.encoders.get_encoder("segmnv2-small_mobilenet_v2", weights=None, output_stride=4)
