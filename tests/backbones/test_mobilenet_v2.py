from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from segmnv2.backbones.mobilenet_v2 import MobileNetV2
from segmnv2.errors import ConfigError
from segmnv2.nn.blocks import InvertedResidual
from segmnv2.weights.key_tables import TIMM_MOBILENET_V2, TORCHVISION
from tests.backbones.reference import load_theirs, randomize_norms


def block_outputs(backbone: MobileNetV2, x: Tensor) -> list[Tensor]:
    outputs = []
    for block in backbone.blocks:
        block.register_forward_hook(lambda _m, _i, out: outputs.append(out))
    with torch.no_grad():
        backbone(x)
    for block in backbone.blocks:
        block._forward_hooks.clear()
    return outputs


def dilations(backbone: MobileNetV2) -> list[int]:
    return [b.depthwise.conv.dilation[0] for b in backbone.blocks if isinstance(b, InvertedResidual)]


@pytest.mark.parametrize("fine", [8, 16])
def test_atrous_consistency_block_by_block(fine: int) -> None:
    """A finer output stride computes the coarser one's features, and more of them between."""
    torch.manual_seed(0)
    backbone = MobileNetV2(output_stride=32).double().eval()
    randomize_norms(backbone)
    x = torch.randn(1, 3, 129, 97, dtype=torch.float64)
    coarse = block_outputs(backbone, x)
    backbone.set_output_stride(fine)
    dense = block_outputs(backbone, x)
    assert len(coarse) == len(dense) == 17
    steps = set()
    for index, (few, many) in enumerate(zip(coarse, dense, strict=True)):
        step = (many.shape[-1] - 1) // (few.shape[-1] - 1)
        steps.add(step)
        torch.testing.assert_close(many[..., ::step, ::step], few, rtol=1e-9, atol=1e-9, msg=f"block {index}")
    assert max(steps) == 32 // fine


@pytest.mark.parametrize("size", [(96, 64), (97, 65)])
def test_parity_with_torchvision(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2(weights=None).eval()
    randomize_norms(theirs)
    ours = MobileNetV2(padding="symmetric", norm_eps=1e-5, last_conv=True).eval()
    load_theirs(ours, theirs, TORCHVISION)
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        features = ours(x)
        for last, feature in zip((2, 4, 7, 14, 18, 19), features, strict=True):
            torch.testing.assert_close(feature, theirs.features[:last](x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(96, 64), (97, 65)])
def test_parity_with_timm(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    theirs: Any = timm.create_model("mobilenetv2_050", features_only=False).eval()
    randomize_norms(theirs)
    ours = MobileNetV2(width=0.5, padding="symmetric", norm_eps=1e-5, last_conv=True).eval()
    load_theirs(ours, theirs, TIMM_MOBILENET_V2)
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(ours(x)[-1], theirs.forward_features(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("output_stride", "expected"),
    [(32, [1] * 17), (16, [1] * 14 + [2] * 3), (8, [1] * 7 + [2] * 7 + [4] * 3)],
)
def test_dilations_are_those_of_slim(output_stride: int, expected: list[int]) -> None:
    assert dilations(MobileNetV2(output_stride=output_stride)) == expected


def test_channels_of_the_paper_and_of_deeplabs_half_width() -> None:
    assert [f.channels for f in MobileNetV2().feature_info] == [16, 24, 32, 96, 320]
    half = MobileNetV2(width=0.5, channel_divisor=1)
    outputs = [b.project.conv.out_channels for b in half.blocks if isinstance(b, InvertedResidual)]
    assert [outputs[i] for i in (0, 1, 3, 6, 10, 13, 16)] == [8, 12, 16, 32, 48, 80, 160]
    eighths = MobileNetV2(width=0.5)
    assert all(f.channels % 8 == 0 for f in eighths.feature_info)


def test_imagenet_values_are_those_of_slims_checkpoint() -> None:
    """2,223,872 values, the 1280-channel layer included: the paper's 3.4 M less the classifier's matrix and bias."""
    backbone = MobileNetV2(last_conv=True)
    assert sum(p.numel() for p in backbone.parameters()) == 2_223_872


def test_initialization_and_norms_are_slims() -> None:
    backbone = MobileNetV2()
    weights = torch.cat([m.weight.detach().flatten() for m in backbone.modules() if isinstance(m, nn.Conv2d)])
    assert weights.abs().max() <= 0.18
    assert weights.std() == pytest.approx(0.09 * 0.88, rel=0.01)  # a normal cut at two deviations keeps 0.88 of one
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(n.eps, n.momentum) for n in norms} == {(1e-3, 0.003)}


@pytest.mark.parametrize("options", [{"width": 0.0}, {"width": 9.0}, {"channel_divisor": 0}, {"output_stride": 12}])
def test_impossible_arguments_name_the_allowed_ones(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        MobileNetV2(**options)  # type: ignore[arg-type]


VARIANTS = [{"bottleneck_activation": True}, {"shortcut": "expansion"}, {"shortcut": "none"}]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_a_variant_of_figure_6_has_the_same_weights_and_the_same_laws(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    plain = MobileNetV2(width=0.35).double().eval()
    randomize_norms(plain)
    variant = MobileNetV2(width=0.35, **options).double().eval()
    variant.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 97, 65, dtype=torch.float64)
    coarse = variant(x)
    assert any(not torch.allclose(ours, theirs) for ours, theirs in zip(coarse, plain(x), strict=True))
    for output_stride in (16, 8):
        variant.set_output_stride(output_stride)
        for fine, few in zip(variant(x), coarse, strict=True):
            step = (fine.shape[-1] - 1) // (few.shape[-1] - 1)
            torch.testing.assert_close(fine[..., ::step, ::step], few, rtol=1e-9, atol=1e-9)
    variant.train()
    sum(feature.square().mean() for feature in variant(x)).backward()
    assert all(parameter.grad is not None for parameter in variant.parameters())


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_a_variant_is_exported(options: dict[str, Any]) -> None:
    variant = MobileNetV2(width=0.35, output_stride=16, **options).eval()
    x = torch.randn(1, 3, 65, 65)
    for ours, exported in zip(variant(x), torch.export.export(variant, (x,)).module()(x), strict=True):
        torch.testing.assert_close(ours, exported)


def test_expansions_are_joined_where_they_agree_at_nominal_strides() -> None:
    """Blocks 2 to 17 expand; those that follow one of their own width without a stride between them are joined."""
    backbone = MobileNetV2(shortcut="expansion").eval()
    joined = set(backbone._joined or ())
    blocks: Any = backbone.blocks
    widths = [0 if block.expand is None else block.expand.conv.out_channels for block in blocks]
    strides = [block.depthwise.conv.stride[0] for block in blocks]
    expected = {n for n in range(1, 17) if widths[n] == widths[n - 1] != 0 and strides[n - 1] == 1}
    assert joined == expected
    assert len(joined) == 10
    backbone.set_output_stride(8)
    assert set(backbone._joined or ()) == joined


def test_what_a_variant_cannot_be_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="shortcut 'dense' is not possible; it must be 'bottleneck', 'expansion' or 'none'"
    ):
        MobileNetV2(shortcut="dense")
