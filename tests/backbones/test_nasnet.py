from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.nasnet import NASNetALarge
from torch import Tensor, nn

from segmnv2.backbones.nasnet import NASNet
from segmnv2.backbones.nasnet_cells import FactorizedReduction, NormalCell, ReductionCell
from segmnv2.errors import ConfigError
from segmnv2.models.classifier import Classifier
from segmnv2.models.cost import count_parameters, trace_madds
from tests.backbones.reference import randomize_norms


def small(*, output_stride: int = 32, cells: int = 2, skip_reduction_input: bool = False) -> NASNet:
    torch.manual_seed(0)
    network = NASNet(
        filters=8,
        cells=cells,
        stem_channels=6,
        skip_reduction_input=skip_reduction_input,
        output_stride=output_stride,
    )
    randomize_norms(network)
    return network.eval()


def cell_outputs(network: NASNet, x: Tensor) -> list[Tensor]:
    outputs: list[Tensor] = []
    hooks = [cell.register_forward_hook(lambda _m, _i, out: outputs.append(out)) for cell in network.cells]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    return outputs


def test_the_mobile_network_has_the_published_size() -> None:
    """5.3 M values and 564 M multiply-adds at 224 pixels; slim's unpadded first convolution would save 0.3 M."""
    network = NASNet()
    classifier = Classifier(network, [str(n) for n in range(1000)])
    assert count_parameters(classifier) == 5_289_978
    assert trace_madds(classifier, (224, 224)).plain == pytest.approx(564e6, rel=0.002)
    assert [(f.channels, f.stride) for f in network.feature_info] == [(32, 2), (44, 4), (264, 8), (528, 16), (1056, 32)]


def test_the_cells_stand_in_the_papers_order() -> None:
    kinds = "".join("R" if isinstance(cell, ReductionCell) else "N" for cell in NASNet().cells)
    assert kinds == "RR" + "NNNN" + "R" + "NNNN" + "R" + "NNNN"


def timm_key(key: str, cells: list[str]) -> str:
    """Return timm's name of one of our tensors."""
    key = key.replace("stem.norm.", "conv0.bn.").replace("stem.conv.", "conv0.conv.")
    if key.startswith("cells."):
        _, index, rest = key.split(".", maxsplit=2)
        key = f"{cells[int(index)]}.{rest}"
    for mine, theirs in (
        (".squeeze_previous.path_", ".path_"),
        (".path_1.", ".path_1.conv."),
        (".path_2.", ".path_2.conv."),
        (".squeeze_previous.conv.", ".conv_prev_1x1.conv."),
        (".squeeze.conv.", ".conv_1x1.conv."),
        (".squeeze.norm.", ".conv_1x1.bn."),
        (".sum_", ".comb_iter_"),
        (".first.norm.", ".bn_sep_1."),
        (".second.norm.", ".bn_sep_2."),
        (".first.", ".separable_1."),
        (".second.", ".separable_2."),
        (".depthwise.", ".depthwise_conv2d."),
        (".pointwise.", ".pointwise_conv2d."),
    ):
        key = key.replace(mine, theirs)
    return key


@pytest.mark.skipif(
    not hasattr(NASNetALarge, "forward_intermediates"), reason="this timm shows no maps of NASNet but its last"
)
@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_parity_with_timms_large_network(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    theirs = NASNetALarge(num_classes=1, stem_size=8, num_features=24 * 8, pad_type="").eval()
    theirs.conv0.conv.padding = (1, 1)  # as ours pads it
    randomize_norms(theirs)
    ours = NASNet(filters=8, cells=6, stem_channels=8, skip_reduction_input=True, padding="symmetric").eval()
    values, cells, tensors = theirs.state_dict(), theirs.layer_names[1:], {}
    for key in ours.state_dict():
        name = timm_key(key, cells)
        if ".squeeze_previous.norm." in name:
            plain = name.replace(".squeeze_previous.norm.", ".conv_prev_1x1.bn.")
            name = plain if plain in values else name.replace(".squeeze_previous.norm.", ".final_path_bn.")
        tensors[key] = values.pop(name)
    assert set(values) == {"last_linear.weight", "last_linear.bias"}
    ours.load_state_dict(tensors)
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = theirs.forward_intermediates(x, intermediates_only=True)
        for index, (feature, wanted) in enumerate(zip(ours(x), expected, strict=True)):
            torch.testing.assert_close(feature.relu() if index else feature, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("skip_reduction_input", [False, True])
@pytest.mark.parametrize("fine", [8, 16])
def test_atrous_consistency_cell_by_cell(fine: int, skip_reduction_input: bool) -> None:
    """A finer output stride computes the coarser one's maps, and more of them between."""
    network = small(skip_reduction_input=skip_reduction_input).double()
    x = torch.randn(1, 3, 129, 97, dtype=torch.float64)
    coarse = cell_outputs(network, x)
    network.set_output_stride(fine)
    dense = cell_outputs(network, x)
    steps = set()
    for index, (few, many) in enumerate(zip(coarse, dense, strict=True)):
        step = (many.shape[-1] - 1) // (few.shape[-1] - 1)
        steps.add(step)
        torch.testing.assert_close(many[..., ::step, ::step], few, rtol=1e-9, atol=1e-9, msg=f"cell {index}")
    assert max(steps) == 32 // fine


def test_features_have_the_stated_channels_and_strides() -> None:
    for output_stride in (8, 16, 32):
        network = small(output_stride=output_stride, cells=1)
        with torch.no_grad():
            features = network(torch.randn(1, 3, 97, 64))
        assert [f.shape[1:] for f in features] == [
            (info.channels, -(-97 // info.stride), -(-64 // info.stride)) for info in network.feature_info
        ]
        assert network.feature_info[-1].stride == output_stride


def test_only_the_last_feature_map_is_rectified() -> None:
    with torch.no_grad():
        *others, last = small(cells=1)(torch.randn(1, 3, 65, 65))
    assert last.min() == 0
    assert all(feature.min() < 0 for feature in others)


def test_a_factorized_reduction_loses_no_sample_of_the_diagonals() -> None:
    """Its second path sees the samples one row and one column further, and zeros beyond the edge."""
    layer = FactorizedReduction(1, 2, small()._layers).double().eval()
    for path in (layer.path_1, layer.path_2):
        nn.init.ones_(path.weight)
    layer.norm.eps = 0.0
    x = torch.arange(1.0, 26.0, dtype=torch.float64).reshape(1, 1, 5, 5)
    with torch.no_grad():
        even, odd = layer(x)[0]
    assert torch.equal(even, x[0, 0, ::2, ::2])
    assert torch.equal(odd[:2, :2], x[0, 0, 1::2, 1::2])
    assert not odd[2].any()
    assert not odd[:, 2].any()


def test_initialization_and_norms_are_slims() -> None:
    network = NASNet(filters=16, cells=1)
    convs = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 4000]
    for conv in convs:
        fan_out = conv.out_channels // conv.groups * conv.kernel_size[0] ** 2
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
    assert convs
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(n.eps, n.momentum) for n in norms} == {(1e-3, 0.0003)}


def test_normal_cells_never_stride() -> None:
    strided = small().strided_layers()
    assert {stride for cell, stride in strided if isinstance(cell, NormalCell)} == {1}
    assert [stride for _, stride in strided].count(2) == 5


@pytest.mark.parametrize("options", [{"filters": 10}, {"filters": 0}, {"cells": 0}, {"stem_channels": 0}])
def test_impossible_arguments_name_the_allowed_ones(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        NASNet(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("skip", [False, True])
def test_the_cell_behind_a_reduction_reads_the_map_that_its_option_says(skip: bool) -> None:
    """The mobile network's reads the reduction's newer input, the large one's the older."""
    network = small(skip_reduction_input=skip)
    given: dict[int, Any] = {}
    for index, cell in enumerate(network.cells):
        cell.register_forward_hook(lambda _m, inputs, _out, index=index: given.__setitem__(index, inputs))
    with torch.no_grad():
        network(torch.randn(1, 3, 65, 65))
    reductions = [i for i, cell in enumerate(network.cells) if isinstance(cell, ReductionCell)]
    assert given[0][1] is None
    for index in reductions[2:]:
        newer, older = given[index]
        assert given[index + 1][1] is (older if skip else newer)
