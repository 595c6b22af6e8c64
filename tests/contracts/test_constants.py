"""Constants of the paper and of TensorFlow's code, compared with the library's constants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from segmnv2.backbones.backbone import create_backbone
from segmnv2.backbones.mobilenet_v2 import LAST_CHANNELS, STAGES, stage_channels
from segmnv2.config.classification_schema import ClassificationDataSection, ClassificationLossSection, RmspropSection
from segmnv2.config.segmentation_schema import DataSection, ValidationSection
from segmnv2.config.training_sections import LossSection, OptimizerSection
from segmnv2.conversion.import_tensorflow import FAMILIES
from segmnv2.data.transforms import SCALES as TRAIN_SCALES
from segmnv2.datasets.coco_voc import COCO_CATEGORIES
from segmnv2.heads.deeplab_v3 import DeepLabV3Head
from segmnv2.inference.canvas import DEFAULT_SIZE, SCALES
from segmnv2.labels import VOC_LABELS
from segmnv2.models.classifier import create_classifier
from segmnv2.models.pixels import IMAGENET_NORMALIZATION, TENSORFLOW_NORMALIZATION
from segmnv2.nn.stride import scaled_side
from segmnv2.paper.figure5 import PUBLISHED
from segmnv2.paper.table4 import TABLE4
from segmnv2.paper.table7 import TABLE7
from segmnv2.preparation.published_archives import VOC_COUNTS
from segmnv2.tasks.optimizer import LAST_BIAS_FACTOR

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def norms(network: nn.Module) -> set[tuple[float, float | None]]:
    return {(m.eps, m.momentum) for m in network.modules() if isinstance(m, nn.BatchNorm2d)}


@pytest.mark.parametrize(
    ("name", "epsilon", "decay"),
    [
        ("mobilenet_v1", 1e-3, 0.9997),
        ("mobilenet_v2", 1e-3, 0.997),
        ("nasnet_a_mobile", 1e-3, 0.9997),
        ("resnet101", 1e-5, 0.95),
    ],
)
def test_batch_norms_of_backbones(name: str, epsilon: float, decay: float) -> None:
    with torch.device("meta"):
        found = norms(create_backbone(name))
    assert {eps for eps, _ in found} == {epsilon}
    assert {round(1 - (momentum or 0), 6) for _, momentum in found} == {decay}


def test_head_of_deeplab() -> None:
    head = DeepLabV3Head(320, 21, aspp=True)
    assert norms(head) == {(1e-5, 0.0003)}
    assert (head.dropout.p, head.logits.in_channels, head.aspp.out_channels) == (0.1, 256, 5 * 256)
    assert 0.015 < float(head.logits.weight.detach().abs().max()) <= 0.02  # a normal of 0.01, cut at two deviations
    rates = {}
    for stride in (32, 16, 8):
        head.set_output_stride(stride)
        atrous: Any = head.aspp.atrous
        rates[stride] = [branch.conv.dilation[0] for branch in atrous]
    assert rates == {32: [3, 6, 9], 16: [6, 12, 18], 8: [12, 24, 36]}


def test_initial_weights_of_the_mobile_networks() -> None:
    for name in ("mobilenet_v1", "mobilenet_v2"):
        network = create_backbone(name)
        kernels = torch.cat([m.weight.detach().flatten() for m in network.modules() if isinstance(m, nn.Conv2d)])
        assert 0.17 < float(kernels.abs().max()) <= 0.18  # a normal of 0.09, cut at two deviations


def test_mobilenet_v2s_table_and_channels() -> None:
    table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    assert [tuple(stage) for stage in STAGES] == table
    assert LAST_CHANNELS == 1280
    assert stage_channels(0.5, 8) == (16, 8, 16, 16, 32, 48, 80, 160)
    assert stage_channels(0.5, 1) == (16, 8, 12, 16, 32, 48, 80, 160)  # DeepLab's dm0.5


def test_normalizations() -> None:
    assert TENSORFLOW_NORMALIZATION.mean == TENSORFLOW_NORMALIZATION.std == (127.5, 127.5, 127.5)
    assert IMAGENET_NORMALIZATION.mean == pytest.approx([255 * v for v in (0.485, 0.456, 0.406)])
    assert IMAGENET_NORMALIZATION.std == pytest.approx([255 * v for v in (0.229, 0.224, 0.225)])
    found = {family.title: (family.normalization, family.classifier_normalization) for family in FAMILIES}
    deeplab, slim = found.pop("ResNet-101")
    assert deeplab.mean == (123.15, 115.90, 103.06)  # _MEAN_RGB of feature_extractor.py
    assert slim.mean == (123.68, 116.779, 103.939)  # vgg_preprocessing.py
    assert deeplab.std == slim.std == (1.0, 1.0, 1.0)
    assert set(found.values()) == {(TENSORFLOW_NORMALIZATION, TENSORFLOW_NORMALIZATION)}


def defaults(section: type[Any]) -> dict[str, Any]:
    return {name: field.default for name, field in section.model_fields.items()}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (OptimizerSection, {"lr": 0.007, "momentum": 0.9, "weight_decay": 4e-5, "power": 0.9, "warmup_steps": 0}),
        (DataSection, {"crop_size": 513, "flip": 0.5, "batch_size": 16, "scales": TRAIN_SCALES, "photometric": None}),
        (ValidationSection, {"size": 513}),
        (LossSection, {"cross_entropy": 1.0, "focal": 0.0, "dice": 0.0, "lovasz": 0.0, "hard_pixels": 1.0}),
        (
            RmspropSection,
            {"lr": 0.045, "momentum": 0.9, "alpha": 0.9, "epsilon": 1.0, "weight_decay": 4e-5, "rate_factor": 0.98}
            | {"rate_epochs": 1.0},
        ),
        (ClassificationDataSection, {"crop_size": 224, "batch_size": 96, "central": 0.875}),
        (ClassificationLossSection, {"label_smoothing": 0.1}),
    ],
)
def test_defaults_of_an_experiment(section: type[Any], expected: dict[str, Any]) -> None:
    assert {key: defaults(section)[key] for key in expected} == expected


def test_training_and_evaluation_of_segmentation() -> None:
    assert TRAIN_SCALES == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
    assert LAST_BIAS_FACTOR == 2
    assert DEFAULT_SIZE == 513
    assert SCALES == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    assert [scaled_side(513, scale) for scale in SCALES] == [257, 385, 513, 641, 769, 897]
    assert (VOC_LABELS.num_classes, VOC_LABELS.ignore_index, VOC_LABELS.names[0]) == (21, 255, "background")
    assert VOC_COUNTS == {"train": 1464, "val": 1449, "trainval": 2913, "train_aug": 10582}
    ids = (0, 5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
    assert (0, *(number for number, _ in COCO_CATEGORIES)) == ids
    assert create_classifier("mobilenet_v2", num_classes=2, width=0.35).dropout.p == 0.2


RECIPES = [
    path for path in sorted(CONFIGS.glob("*coco_*.yaml")) if "ssdlite" not in path.stem and "rcnn" not in path.stem
]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_the_paper(path: Path) -> None:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    first_stage, frozen = path.stem.startswith("coco_"), values["model"]["norms"] == "frozen"
    optimizer = values["optimizer"]
    assert values["steps"] == (500_000 if first_stage else 30_000)
    assert optimizer["lr"] == (1e-4 if frozen else 0.007)
    assert optimizer["weight_decay"] == (1e-4 if "resnet101" in path.stem else 4e-5)
    assert (optimizer["momentum"], optimizer["power"]) == (0.9, 0.9)
    assert values["data"]["batch_size"] >= 12 or frozen


def test_table_7_as_printed() -> None:
    assert [(row.output_stride, row.aspp, row.mf, row.miou, row.params, row.madds) for row in TABLE7] == [
        (16, True, False, 75.29, 11.15, 14.25),
        (8, True, True, 78.56, 11.15, 941.9),
        (16, True, False, 75.70, 4.52, 5.8),
        (8, True, True, 78.42, 4.52, 387.0),
        (16, False, False, 75.32, 2.11, 2.75),
        (8, False, True, 77.33, 2.11, 152.6),
        (16, True, False, 80.49, 58.16, 81.0),
        (8, True, True, 82.70, 58.16, 4870.6),
    ]


def test_table_4_as_printed() -> None:
    assert [(row.top1, row.params, row.madds, row.milliseconds) for row in TABLE4] == [
        (70.6, 4.2, 575, 113),
        (71.5, 3.4, 292, None),
        (73.7, 5.4, 524, None),
        (74.0, 5.3, 564, 183),
        (72.0, 3.4, 300, 75),
        (74.7, 6.9, 585, 143),
    ]


SLIM_V2 = """
1.4 224 582 6.06 75.0 | 1.3 224 509 5.34 74.4 | 1.0 224 300 3.47 71.8 | 1.0 192 221 3.47 70.7 | 1.0 160 154 3.47 68.8
1.0 128 99 3.47 65.3 | 1.0 96 56 3.47 60.3 | 0.75 224 209 2.61 69.8 | 0.75 192 153 2.61 68.7 | 0.75 160 107 2.61 66.4
0.75 128 69 2.61 63.2 | 0.75 96 39 2.61 58.8 | 0.5 224 97 1.95 65.4 | 0.5 192 71 1.95 63.9 | 0.5 160 50 1.95 61.0
0.5 128 32 1.95 57.7 | 0.5 96 18 1.95 51.2 | 0.35 224 59 1.66 60.3 | 0.35 192 43 1.66 58.2 | 0.35 160 30 1.66 55.7
0.35 128 20 1.66 50.8 | 0.35 96 11 1.66 45.5
"""
SLIM_V1 = """
1.0 224 569 4.24 70.9 | 1.0 192 418 4.24 70.0 | 1.0 160 291 4.24 68.0 | 1.0 128 186 4.24 65.2
0.75 224 317 2.59 68.4 | 0.75 192 233 2.59 67.2 | 0.75 160 162 2.59 65.3 | 0.75 128 104 2.59 62.1
0.5 224 150 1.34 63.3 | 0.5 192 110 1.34 61.7 | 0.5 160 77 1.34 59.1 | 0.5 128 49 1.34 56.3
0.25 224 41 0.47 49.8 | 0.25 192 34 0.47 47.7 | 0.25 160 21 0.47 45.5 | 0.25 128 14 0.47 41.5
"""


@pytest.mark.parametrize(("network", "printed"), [("MobileNetV2", SLIM_V2), ("MobileNetV1", SLIM_V1)])
def test_slims_tables_as_printed(network: str, printed: str) -> None:
    rows = [tuple(map(float, row.split())) for row in printed.replace("\n", "|").split("|") if row.strip()]
    found = [(p.width, p.size, p.madds, p.params, p.top1) for p in PUBLISHED if p.network == network]
    assert sorted(found) == sorted(rows)
