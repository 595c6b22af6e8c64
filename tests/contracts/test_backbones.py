"""What every registered backbone must do, whatever it is."""

from __future__ import annotations

import pytest
import torch

from segmnv2.backbones.registry import BACKBONES, create_backbone
from segmnv2.errors import ConfigError
from segmnv2.nn.stride import OUTPUT_STRIDES

NAMES = sorted(BACKBONES)


@pytest.mark.parametrize("output_stride", OUTPUT_STRIDES)
@pytest.mark.parametrize("name", NAMES)
def test_features_have_the_stated_channels_and_strides(name: str, output_stride: int) -> None:
    backbone = create_backbone(name, output_stride=output_stride).eval()
    x = torch.randn(1, 3, 97, 65)
    with torch.no_grad():
        features = backbone(x)
    assert len(features) == len(backbone.feature_info)
    for feature, info in zip(features, backbone.feature_info, strict=True):
        assert feature.shape == (1, info.channels, -(-97 // info.stride), -(-65 // info.stride))
    assert backbone.feature_info[-1].stride == output_stride


@pytest.mark.parametrize("name", NAMES)
def test_finer_features_contain_the_coarser_ones(name: str) -> None:
    backbone = create_backbone(name, output_stride=32).double().eval()
    x = torch.randn(1, 3, 97, 65, dtype=torch.float64)
    with torch.no_grad():
        coarse = backbone(x)[-1]
        for output_stride in (16, 8):
            backbone.set_output_stride(output_stride)
            step = 32 // output_stride
            torch.testing.assert_close(backbone(x)[-1][..., ::step, ::step], coarse)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    backbone = create_backbone(name, output_stride=16).train()
    sum(feature.square().mean() for feature in backbone(torch.randn(2, 3, 65, 65))).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in backbone.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_it_exports_with_dynamic_sides(name: str) -> None:
    backbone = create_backbone(name, output_stride=16, width=0.35).eval()
    side = torch.export.Dim("k", min=2, max=40)
    program = torch.export.export(backbone, (torch.randn(1, 3, 65, 65),), dynamic_shapes=({2: 16 * side + 1, 3: 65},))
    x = torch.randn(1, 3, 97, 65)
    for ours, exported in zip(backbone(x), program.module()(x), strict=True):
        torch.testing.assert_close(ours, exported)


def test_an_unknown_name_or_option_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="available are mobilenet_v2"):
        create_backbone("mobilenet_v9")
    with pytest.raises(ConfigError, match="depth"):
        create_backbone("mobilenet_v2", depth=3)
