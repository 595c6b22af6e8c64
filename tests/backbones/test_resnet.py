from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.models.resnet import Bottleneck as TimmBottleneck
from timm.models.resnet import ResNet as TimmResNet
from torch import nn
from torchvision.models.resnet import Bottleneck as TorchvisionBottleneck
from torchvision.models.resnet import ResNet as TorchvisionResNet

from segmnv2.backbones.resnet import Bottleneck, ResNet
from segmnv2.errors import ConfigError
from segmnv2.heads.deeplab_v3 import DeepLabV3Head
from segmnv2.weights.key_tables import (
    TENSORFLOW_RESNET101,
    TIMM_RESNET101S,
    TORCHVISION_RESNET101,
    timm_deep_resnet,
    torchvision_resnet,
)
from tests.backbones.reference import load_theirs, randomize_norms

UNITS = (2, 1, 3, 2)
LIKE_TORCH: dict[str, Any] = {"strided_unit": "first", "padding": "symmetric"}


def theirs_and_ours(stem: str) -> tuple[nn.Module, ResNet]:
    torch.manual_seed(0)
    ours = ResNet(units=UNITS, multi_grid=(1, 1), stem=stem, **LIKE_TORCH).eval()
    if stem == "7x7":
        theirs: nn.Module = TorchvisionResNet(TorchvisionBottleneck, list(UNITS))
    else:
        block: Any = TimmBottleneck  # timm's annotation asks for an instance
        theirs = TimmResNet(block, UNITS, stem_width=64, stem_type="deep")
    randomize_norms(theirs)
    load_theirs(ours, theirs, (torchvision_resnet if stem == "7x7" else timm_deep_resnet)(UNITS))
    return theirs.eval(), ours


@pytest.mark.parametrize("size", [(96, 64), (97, 65)])
@pytest.mark.parametrize("stem", ["7x7", "deep"])
def test_parity_with_torchvision_and_timm(stem: str, size: tuple[int, int]) -> None:
    theirs, ours = theirs_and_ours(stem)
    maps = []
    for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
        layer.register_forward_hook(lambda _m, _i, out: maps.append(out))
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        theirs(x)
        for our_map, their_map in zip(ours(x)[1:], maps, strict=True):
            torch.testing.assert_close(our_map, their_map, rtol=1e-4, atol=1e-4)


def test_tables_know_every_tensor_of_the_whole_network() -> None:
    with torch.device("meta"):
        cases = [
            (ResNet(stem="7x7"), TORCHVISION_RESNET101, set(timm.create_model("resnet101").state_dict())),
            (ResNet(), TIMM_RESNET101S, set(timm.create_model("resnet101s").state_dict())),
            (ResNet(), TENSORFLOW_RESNET101, None),
        ]
    for network, table, known in cases:
        names = [f"backbone.{n}" for n in network.state_dict() if not n.endswith("num_batches_tracked")]
        found = table.theirs(names)
        assert found.keys() == set(names)
        if known is not None:
            left = {n for n in known - set(found.values()) if not n.endswith("num_batches_tracked")}
            assert left == {"fc.weight", "fc.bias"}
        else:
            assert found["backbone.units.3.projection.norm.weight"] == (
                "resnet_v1_101/block2/unit_1/bottleneck_v1/shortcut/BatchNorm/gamma"
            )


def test_values_are_those_of_the_papers_table_7() -> None:
    head = sum(p.numel() for p in DeepLabV3Head(2048, 21, aspp=True).parameters())
    with torch.device("meta"):
        deep, plain = (sum(p.numel() for p in ResNet(stem=stem).parameters()) for stem in ("deep", "7x7"))
    assert deep + head == 58_164_437
    assert plain + head == 58_040_661


@pytest.mark.parametrize(
    ("output_stride", "expected"), [(32, [1, 1, 1, 2, 4]), (16, [1, 1, 2, 4, 8]), (8, [2, 2, 4, 8, 16])]
)
def test_the_multi_grid_comes_on_top_of_the_dilation(output_stride: int, expected: list[int]) -> None:
    network = ResNet(units=(2, 2, 2, 3), output_stride=output_stride)
    units = [u for u in network.units if isinstance(u, Bottleneck)]
    assert [u.spatial.conv.dilation[0] for u in units[4:]] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem": "9x9"}, "stem '9x9'"),
        ({"strided_unit": "second"}, "strided_unit 'second'"),
        ({"units": (3, 4, 23)}, "units"),
        ({"units": (1, 1, 1, 3)}, "at least two"),
        ({"multi_grid": (1, 2)}, r"multi_grid \(1, 2\)"),
        ({"multi_grid": (0, 1, 2)}, "multi_grid"),
    ],
)
def test_impossible_arguments_name_the_allowed_ones(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ResNet(**options)
