"""Laws of all registered backbones."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models import FeatureInfo as TimmFeatureInfo
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from segmnv2.backbones.backbone import BACKBONES, Backbone, create_backbone
from segmnv2.detection.detector import create_detector
from segmnv2.errors import ConfigError
from segmnv2.models.classifier import create_classifier
from segmnv2.models.zoo import create_model
from segmnv2.nn.network import freeze_batch_norm, statistical_norms
from segmnv2.nn.stride import OUTPUT_STRIDES
from segmnv2.training.trainer import SynchronizedNorms
from tests.backbones.reference import randomize_norms
from tests.marks import slow_where
from tests.processes import SERVER

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
"""Options of small backbones for slow tests; channels and strides are tested on the complete ones."""

NEEDED: dict[str, dict[str, Any]] = {"smp": {"encoder": "resnet50"}, "timm": {"model": "resnet50"}}


EACH_KIND: list[tuple[str, dict[str, Any]]] = [
    *SMALL.items(),
    ("smp", {"encoder": "efficientnet-b0"}),  # keeps the last layers of its classifier
    ("smp", {"encoder": "timm-skresnet18"}),  # timm's norms inside smp
    ("timm", {"model": "test_efficientnet"}),  # norms with an activation inside
    ("timm", {"model": "hrnet_w18_small"}),  # branches of which the last map needs none
]
"""Backbones of every kind, with all kinds of norms, and some with layers that no output depends on."""


def kind(case: object) -> str:
    return next(iter(case.values()), "") if isinstance(case, dict) else str(case)


def small(name: str, output_stride: int) -> Backbone:
    torch.manual_seed(0)
    backbone = create_backbone(name, output_stride=output_stride, **SMALL.get(name, {}))
    randomize_norms(backbone)  # timm initializes residual branches with a scale of zero, which would hide them
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
def test_feature_info_agrees_with_timms(name: str) -> None:
    backbone = small(name, 16)
    info = backbone.feature_info
    theirs = TimmFeatureInfo(
        [{"num_chs": f.channels, "reduction": f.stride, "module": ""} for f in info], tuple(range(len(info)))
    )
    for index in (None, 0, -1, [0, 1]):
        assert info.channels(index) == theirs.channels(index)
        assert info.reduction(index) == theirs.reduction(index)


@pytest.mark.parametrize("name", NAMES)
def test_features_at_a_smaller_stride_contain_those_at_a_larger_one(name: str) -> None:
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
def test_restoring_the_output_stride_restores_the_features(name: str) -> None:
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
    sum(feature.square().mean() for feature in backbone(torch.randn(2, 3, 65, 65))).backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in backbone.parameters())


@pytest.mark.parametrize("name", slow_where(lambda name: name == "nasnet_a_mobile", NAMES))
def test_backbones_are_exported_with_dynamic_sides(name: str) -> None:
    backbone = small(name, 16).eval()
    side = torch.export.Dim("k", min=2, max=40)
    program = torch.export.export(backbone, (torch.randn(1, 3, 65, 65),), dynamic_shapes=({2: 16 * side + 1, 3: 65},))
    x = torch.randn(1, 3, 97, 65)
    for ours, exported in zip(backbone(x), program.module()(x), strict=True):
        torch.testing.assert_close(ours, exported)


@pytest.mark.parametrize(("name", "options"), EACH_KIND, ids=kind)
def test_synchronized_norms_compute_the_same_as_ordinary_ones(name: str, options: dict[str, Any]) -> None:
    backbone = create_backbone(name, **options)
    randomize_norms(backbone)
    converted = SynchronizedNorms().apply(copy.deepcopy(backbone))
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in statistical_norms(converted))
    assert converted.state_dict().keys() == backbone.state_dict().keys()
    x = torch.randn(2, 3, 65, 65)
    for mode in (True, False):  # a single process has nothing to synchronize
        maps = []
        for network in (backbone, converted):
            torch.manual_seed(0)  # some backbones drop random blocks in training
            maps.append(network.train(mode)(x))
        for ours, theirs in zip(*maps, strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("name", "options"), EACH_KIND, ids=kind)
def test_frozen_norms_keep_their_statistics_in_training(name: str, options: dict[str, Any]) -> None:
    model = create_model(f"deeplabv3_{name}", num_classes=2, output_stride=32, **options)
    freeze_batch_norm(model)
    if options != {"model": "hrnet_w18_small"}:  # it has only stride 32
        model.set_output_stride(16)
    before = {key: value.clone() for key, value in model.named_buffers() if "running" in key}
    model.train()(torch.rand(2, 3, 33, 33))
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers() if key in before)


@pytest.mark.parametrize(("name", "options"), EACH_KIND, ids=kind)
def test_outputs_depend_on_exactly_the_parameters_that_are_not_frozen(name: str, options: dict[str, Any]) -> None:
    model = create_model(f"deeplabv3_{name}", num_classes=2, output_stride=32, **options).train()
    model(torch.rand(2, 3, 65, 65)).square().mean().backward()
    assert [key for key, p in model.named_parameters() if p.requires_grad != (p.grad is not None)] == []
    frozen = {key.split(".")[2] for key, p in model.named_parameters() if not p.requires_grad}
    expected = {"efficientnet-b0": {"_conv_head", "_bn1"}, "hrnet_w18_small": {"stage4", "incre_modules"}}
    assert frozen == expected.get(kind(options), set())


def _train_on_two_processes(rank: int, meeting: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=2)
    hrnet: dict[str, Any] = {"model": "hrnet_w18_small"}
    networks: list[nn.Module] = [
        create_model(f"deeplabv3_{name}", num_classes=2, output_stride=32, **options) for name, options in EACH_KIND
    ]
    networks += [create_classifier("timm", num_classes=2, **hrnet)]
    for network in networks:
        parallel = DistributedDataParallel(network.train())
        for _ in range(2):  # a missing gradient is noticed at the second step
            parallel(torch.rand(2, 3, 33, 33)).square().mean().backward()
    target = {"boxes": torch.tensor([[4.0, 4.0, 30.0, 40.0]]), "labels": torch.tensor([1])}
    detector = create_detector("faster_rcnn", "timm", class_names={1: "thing"}, size=64, backbone_options=hrnet)
    parallel = DistributedDataParallel(detector.train())
    for _ in range(2):
        torch.stack(list(parallel([torch.rand(3, 64, 64)], [target]).values())).sum().backward()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_each_kind_of_backbone_trains_on_two_processes(tmp_path: Path) -> None:
    workers = [SERVER.Process(target=_train_on_two_processes, args=(rank, tmp_path / "meeting")) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]


def test_an_unknown_name_or_option_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(ConfigError, match=r"available are .*mobilenet_v2"):
        create_backbone("mobilenet_v9")
    with pytest.raises(ConfigError, match=r"no option depth; it has .*width"):
        create_backbone("mobilenet_v2", depth=3)
    with pytest.raises(ConfigError, match="needs model; give for example model='resnet50'"):
        create_backbone("timm")
