from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segmnv2.backbones.mobilenet_v2 import MobileNetV2
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.models.classifier import Classifier, create_classifier, load_classifier, save_classifier
from segmnv2.models.cost import count_parameters, trace_madds
from segmnv2.models.model_file import load_model, save_model
from segmnv2.models.pixels import IMAGENET_NORMALIZATION
from segmnv2.models.zoo import create_model

NAMES = ("ant", "bee", "cow")


def test_the_last_convolution_and_its_cost_match_slim() -> None:
    model = create_classifier("mobilenet_v2")
    assert model.backbone.feature_info[-1].channels == 1280
    assert count_parameters(model) == 2_223_872 + 1280 * 1000 + 1000
    assert trace_madds(model, (224, 224)).plain / 1e6 == pytest.approx(300, rel=0.01)


def test_the_logits_are_the_linear_layer_on_the_mean_of_the_features() -> None:
    model = create_classifier("mobilenet_v2", class_names=NAMES, width=0.35).eval()
    pixels = torch.randint(0, 256, (2, 3, 65, 33), dtype=torch.uint8)
    with torch.no_grad():
        features = model.backbone(model.normalize(pixels))[-1]
        expected = features.flatten(2).mean(2) @ model.logits.weight.T + model.logits.bias
        torch.testing.assert_close(model(pixels), expected)


def test_a_file_rebuilds_the_same_classifier(tmp_path: Path) -> None:
    model = create_classifier(
        "mobilenet_v2", class_names=NAMES, width=0.35, normalization=IMAGENET_NORMALIZATION
    ).eval()
    again = load_classifier(save_classifier(tmp_path / "c.safetensors", model, {"from": "a test"}))
    pixels = torch.randint(0, 256, (1, 3, 65, 65), dtype=torch.uint8)
    assert again.class_names == NAMES
    assert again.normalization == IMAGENET_NORMALIZATION
    with torch.no_grad():
        assert torch.equal(model(pixels), again(pixels))


def test_a_file_keeps_the_names_of_a_new_last_layer(tmp_path: Path) -> None:
    model = create_classifier("mobilenet_v2", class_names=NAMES, width=0.35)
    model.logits = torch.nn.Linear(model.logits.in_features, 2)
    with pytest.raises(ConfigError, match=rf"logits, has 2 classes, and {len(NAMES)} have names"):
        save_classifier(tmp_path / "c.safetensors", model)
    model.class_names = ("cat", "dog")
    assert load_classifier(save_classifier(tmp_path / "c.safetensors", model)).class_names == ("cat", "dog")


def test_a_file_stores_the_current_output_stride(tmp_path: Path) -> None:
    model = create_classifier("mobilenet_v2", class_names=NAMES, width=0.35).eval()
    model.backbone.set_output_stride(16)
    again = load_classifier(save_classifier(tmp_path / "c.safetensors", model))
    assert again.backbone.output_stride == 16
    pixels = torch.rand(1, 3, 65, 65) * 255
    assert torch.equal(again(pixels), model(pixels))


def test_segmentation_starts_from_a_classifiers_backbone(tmp_path: Path) -> None:
    classifier = create_classifier("mobilenet_v2", class_names=NAMES, width=0.35, normalization=IMAGENET_NORMALIZATION)
    path = save_classifier(tmp_path / "c.safetensors", classifier)
    model = create_model("deeplabv3_mobilenet_v2", width=0.35, backbone_weights=path)
    assert model.normalization == IMAGENET_NORMALIZATION
    theirs = classifier.backbone.state_dict()
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, theirs[name]), name


def test_a_file_of_another_kind_is_named_with_its_kind(tmp_path: Path) -> None:
    classifier = save_classifier(
        tmp_path / "c.safetensors", create_classifier("mobilenet_v2", class_names=NAMES, width=0.35)
    )
    segmenter = save_model(tmp_path / "s.safetensors", create_model("deeplabv3_mobilenet_v2", width=0.35))
    with pytest.raises(WeightsError, match="holds a model, not a classifier"):
        load_classifier(segmenter)
    with pytest.raises(WeightsError, match="holds a classifier, not a segmentation model"):
        load_model(classifier)
    with pytest.raises(WeightsError, match="holds a classifier only; give it as backbone_weights"):
        create_model("deeplabv3_mobilenet_v2", width=0.35, weights=classifier)


def test_impossible_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_classes 4 and 3 class_names"):
        create_classifier("mobilenet_v2", num_classes=4, class_names=NAMES)
    with pytest.raises(ConfigError, match="'ant'"):
        create_classifier("mobilenet_v2", class_names=("ant", "ant"))
    with pytest.raises(ConfigError, match="num_classes 0 is not an integer in 1"):
        create_classifier("mobilenet_v2", num_classes=0)
    with pytest.raises(ConfigError, match="joined from parts"):
        save_classifier("x.safetensors", Classifier(MobileNetV2(width=0.35), NAMES))
