"""What every registered backbone must do, whatever it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models import FeatureInfo as TimmFeatureInfo

from segmnv2.backbones.base import Backbone
from segmnv2.backbones.registry import BACKBONES, create_backbone
from segmnv2.errors import ConfigError
from segmnv2.nn.stride import OUTPUT_STRIDES
from tests.backbones.reference import randomise_norms

NAMES = sorted(BACKBONES)

SMALL: dict[str, dict[str, Any]] = {
    "mobilenet_v1": {"width": 0.25},
    "mobilenet_v2": {"width": 0.35},
    "nasnet_a_mobile": {"filters": 8, "cells": 1},
    "resnet101": {"units": (2, 2, 2, 3)},
    "shufflenet_v1": {"width": 0.5},
    "shufflenet_v2": {"width": 0.5},
    "smp": {"encoder": "resnet18"},
    "timm": {"model": "resnet18"},
}
"""Options that keep what costs time small; the whole networks are traced for channels and strides."""

NEEDED: dict[str, dict[str, Any]] = {"smp": {"encoder": "resnet50"}, "timm": {"model": "resnet50"}}


def small(name: str, output_stride: int) -> Backbone:
    torch.manual_seed(0)
    backbone = create_backbone(name, output_stride=output_stride, **SMALL[name])
    randomise_norms(backbone)  # timm begins residual branches with a scale of zero, which would hide them
    return backbone


@pytest.mark.parametrize("output_stride", OUTPUT_STRIDES)
@pytest.mark.parametrize("name", NAMES)
def test_features_have_the_stated_channels_and_strides(name: str, output_stride: int) -> None:
    with torch.device("meta"):
        backbone = create_backbone(name, output_stride=output_stride, **NEEDED.get(name, {})).eval()
        features = backbone(torch.empty(1, 3, 97, 65))
    assert len(features) == len(backbone.feature_info)
    for feature, info in zip(features, backbone.feature_info, strict=True):
        assert feature.shape == (1, info.channels, -(-97 // info.stride), -(-65 // info.stride))
    assert backbone.feature_info[-1].stride == output_stride


@pytest.mark.parametrize("name", NAMES)
def test_feature_info_answers_as_timms_does(name: str) -> None:
    backbone = small(name, 16)
    info = backbone.feature_info
    theirs = TimmFeatureInfo(
        [{"num_chs": f.channels, "reduction": f.stride, "module": ""} for f in info], tuple(range(len(info)))
    )
    for index in (None, 0, -1, [0, 1]):
        assert info.channels(index) == theirs.channels(index)
        assert info.reduction(index) == theirs.reduction(index)


@pytest.mark.parametrize("name", NAMES)
def test_finer_features_contain_the_coarser_ones(name: str) -> None:
    backbone = small(name, 32).double().eval()
    x = torch.randn(1, 3, 97, 65, dtype=torch.float64)
    with torch.no_grad():
        coarse = backbone(x)
        for output_stride in (16, 8):
            backbone.set_output_stride(output_stride)
            for info, fine, few in zip(backbone.nominal_features, backbone(x), coarse, strict=True):
                step = max(1, info.stride // output_stride)
                torch.testing.assert_close(fine[..., ::step, ::step], few, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_output_stride_goes_there_and_back(name: str) -> None:
    backbone = small(name, 16).eval()
    x = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        before = backbone(x)
        backbone.set_output_stride(8)
        backbone.set_output_stride(16)
        assert all(torch.equal(a, b) for a, b in zip(before, backbone(x), strict=True))
    with pytest.raises(ConfigError, match="output_stride 12"):
        backbone.set_output_stride(12)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    backbone = small(name, 16).train()
    sum(feature.square().mean() for feature in backbone(torch.randn(2, 3, 65, 65))).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in backbone.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_it_exports_with_dynamic_sides(name: str) -> None:
    backbone = small(name, 16).eval()
    side = torch.export.Dim("k", min=2, max=40)
    program = torch.export.export(backbone, (torch.randn(1, 3, 65, 65),), dynamic_shapes=({2: 16 * side + 1, 3: 65},))
    x = torch.randn(1, 3, 97, 65)
    for ours, exported in zip(backbone(x), program.module()(x), strict=True):
        torch.testing.assert_close(ours, exported)


def test_an_unknown_name_or_option_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"available are .*mobilenet_v2"):
        create_backbone("mobilenet_v9")
    with pytest.raises(ConfigError, match=r"no option depth; it has .*width"):
        create_backbone("mobilenet_v2", depth=3)
    with pytest.raises(ConfigError, match="needs model; give it, as model='resnet50'"):
        create_backbone("timm")
