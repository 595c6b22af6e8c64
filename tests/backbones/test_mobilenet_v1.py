from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from segmnv2.backbones.mobilenet_v1 import MobileNetV1
from segmnv2.errors import ConfigError
from segmnv2.heads.deeplab_v3 import DeepLabV3Head
from segmnv2.nn.blocks import DepthwiseSeparable
from segmnv2.weights.key_tables import TENSORFLOW_MOBILENET_V1, TIMM_MOBILENET_V1
from tests.backbones.reference import load_theirs, randomize_norms


@pytest.mark.parametrize("size", [(96, 64), (97, 65)])
def test_parity_with_timm(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("mobilenetv1_100", features_only=True).eval()
    randomize_norms(theirs)
    ours = MobileNetV1(padding="symmetric", norm_eps=1e-5).eval()
    load_theirs(ours, theirs, TIMM_MOBILENET_V1)
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        for ours_map, theirs_map in zip(ours(x), theirs(x), strict=True):
            torch.testing.assert_close(ours_map, theirs_map, rtol=1e-4, atol=1e-5)


def test_values_are_those_of_slims_table_and_of_the_papers_table_7() -> None:
    backbone = MobileNetV1()
    own = sum(p.numel() for p in backbone.parameters())
    head = sum(p.numel() for p in DeepLabV3Head(1024, 21, aspp=True).parameters())
    assert own + 1024 * 1000 + 1000 == 4_231_976
    assert own + head == 11_145_301


@pytest.mark.parametrize(
    ("output_stride", "expected"),
    [(32, [1] * 13), (16, [1] * 12 + [2]), (8, [1] * 6 + [2] * 6 + [4])],
)
def test_dilations_are_those_of_slim(output_stride: int, expected: list[int]) -> None:
    """The block that would stride keeps the dilation so far; those behind it have its stride on top."""
    blocks = [b for b in MobileNetV1(output_stride=output_stride).blocks if isinstance(b, DepthwiseSeparable)]
    assert [b.depthwise.conv.dilation[0] for b in blocks] == expected


def test_channels_follow_the_width() -> None:
    assert [f.channels for f in MobileNetV1(width=0.75).feature_info] == [48, 96, 192, 384, 768]
    assert all(f.channels >= 8 for f in MobileNetV1(width=0.05).feature_info)


def test_slims_names_are_known_for_every_tensor() -> None:
    names = [f"backbone.{n}" for n in MobileNetV1(width=0.25).state_dict() if not n.endswith("num_batches_tracked")]
    found = TENSORFLOW_MOBILENET_V1.theirs(names)
    assert found.keys() == set(names)
    assert found["backbone.stem.conv.weight"] == "MobilenetV1/Conv2d_0/weights"
    assert found["backbone.blocks.12.depthwise.conv.weight"] == "MobilenetV1/Conv2d_13_depthwise/depthwise_weights"
    assert found["backbone.blocks.0.pointwise.norm.running_var"] == (
        "MobilenetV1/Conv2d_1_pointwise/BatchNorm/moving_variance"
    )


def test_norms_are_slims() -> None:
    norms = [m for m in MobileNetV1(width=0.25).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(n.eps, n.momentum) for n in norms} == {(1e-3, 0.0003)}


def test_an_impossible_width_names_the_allowed_ones() -> None:
    with pytest.raises(ConfigError, match=r"width 9\.0 is not possible; it must be less than or equal to 4"):
        MobileNetV1(width=9.0)
