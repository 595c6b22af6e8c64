from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import segmnv2
from segmnv2.backbones.smp import SmpBackbone, smp_normalization
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.models.pixels import IMAGENET_NORMALIZATION
from segmnv2.nn.network import freeze_batch_norm
from tests.backbones.reference import randomize_norms

EXACT = ("resnet18", "mobilenet_v2", "mobileone_s0", "dpn68", "timm-tf_efficientnet_lite0")
OTHERS = ("efficientnet-b0", "mit_b0", "timm-skresnet18", "se_resnet50")
POOLING = ("vgg11_bn", "densenet121", "inceptionv4", "xception")


def build(encoder: str, output_stride: int = 32) -> SmpBackbone:
    torch.manual_seed(0)
    return SmpBackbone(encoder=encoder, output_stride=output_stride).eval()


def shapes(backbone: SmpBackbone, x: Tensor) -> Iterator[tuple[int, ...]]:
    with torch.no_grad():
        yield from (tuple(each.shape[1:]) for each in backbone(x))


@pytest.mark.parametrize("encoder", [*EXACT, *OTHERS])
def test_maps_are_what_is_stated_at_every_output_stride(encoder: str) -> None:
    backbone = build(encoder)
    x = torch.randn(1, 3, 97, 70)
    for output_stride in (32, 16, 8):
        backbone.set_output_stride(output_stride)
        infos = backbone.feature_info
        assert infos[-1].stride == output_stride
        assert list(shapes(backbone, x)) == [(i.channels, -(-97 // i.stride), -(-70 // i.stride)) for i in infos]


@pytest.mark.parametrize("encoder", EXACT)
def test_finer_features_of_plain_encoders_contain_the_coarser_ones(encoder: str) -> None:
    backbone = build(encoder).double()
    randomize_norms(backbone)
    x = torch.randn(1, 3, 97, 65, dtype=torch.float64)
    with torch.no_grad():
        coarse = backbone(x)[-1]
        for output_stride in (16, 8):
            backbone.set_output_stride(output_stride)
            step = 32 // output_stride
            torch.testing.assert_close(backbone(x)[-1][..., ::step, ::step], coarse, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("encoder", POOLING)
def test_encoders_that_pool_have_32_alone_and_stay_whole_when_asked_for_less(encoder: str) -> None:
    backbone = build(encoder)
    x = torch.randn(1, 3, 64, 64)
    before = list(shapes(backbone, x))
    assert before[-1][1:] == (2, 2)
    with pytest.raises(ConfigError, match=f"output_stride 16 is not possible with smp's '{encoder}'.*use 32"):
        backbone.set_output_stride(16)
    assert backbone.output_stride == 32
    assert list(shapes(backbone, x)) == before


def test_norms_that_are_frozen_stay_so_at_another_output_stride() -> None:
    model = segmnv2.create_model("deeplabv3_smp", encoder="resnet18").train()
    freeze_batch_norm(model, backbone_only=True)
    modes = [module.training for module in model.modules()]
    assert True in modes
    assert False in modes
    model.set_output_stride(8)
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("name", ["deeplabv3_smp", "deeplabv3_smp_aspp"])
def test_a_network_on_an_encoder_is_saved_loaded_and_trained(name: str, tmp_path: Path) -> None:
    model = segmnv2.create_model(name, encoder="resnet18", num_classes=3)
    again = segmnv2.load_model(segmnv2.save_model(tmp_path / "m.safetensors", model), output_stride=8)
    pixels = torch.randint(0, 256, (2, 3, 65, 49), dtype=torch.uint8)
    model.eval().set_output_stride(8)
    assert torch.equal(model(pixels), again(pixels))
    again.train()(pixels).square().mean().backward()
    assert all(parameter.grad is not None for parameter in again.parameters())


def test_weights_are_fetched_once_and_bring_their_normalization(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import segmentation_models_pytorch.encoders as theirs

    asked: list[Any] = []
    real = theirs.get_encoder
    described = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "input_range": [0, 1]}

    def get_encoder(name: str, weights: str | None) -> Any:
        asked.append(weights)
        return real(name, weights=None)

    monkeypatch.setattr(theirs, "get_encoder", get_encoder)
    monkeypatch.setattr(theirs, "get_preprocessing_params", lambda name, weights: described)
    model = segmnv2.create_model("deeplabv3_smp", encoder="resnet18", pretrained="imagenet")
    assert model.normalization == IMAGENET_NORMALIZATION
    again = segmnv2.load_model(segmnv2.save_model(tmp_path / "m.safetensors", model))
    assert asked[0] == "imagenet"
    assert set(asked[1:]) == {None}
    assert again.normalization == IMAGENET_NORMALIZATION


def test_weights_that_cannot_be_had_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import segmentation_models_pytorch.encoders as theirs

    def unavailable(*_: Any, **__: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr(theirs, "get_encoder", unavailable)
    with pytest.raises(WeightsError, match="weights 'imagenet' of smp's 'resnet18' cannot be loaded"):
        SmpBackbone(encoder="resnet18", pretrained="imagenet")
    monkeypatch.setattr(theirs, "get_preprocessing_params", unavailable)
    with pytest.raises(WeightsError, match="cannot be loaded"):
        smp_normalization("resnet18", "imagenet")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "resnet19"}, "is not an encoder of the installed smp; did you mean resnet1"),
        ({"encoder": "tu-resnet18"}, "is timm's 'resnet18'; use the backbone timm"),
        ({"encoder": "resnet18", "pretrained": "moon"}, "pretrained 'moon' is not possible for smp's 'resnet18'; give"),
        ({"encoder": "resnet18", "output_stride": 4}, "output_stride 4"),
    ],
)
def test_values_that_are_not_possible_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SmpBackbone(**options)
