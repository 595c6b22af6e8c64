from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from segmnv2.backbones.backbone import create_backbone
from segmnv2.config.segmentation_schema import ModelSection
from segmnv2.errors import WeightsError
from segmnv2.files.yaml_documents import parse_yaml
from segmnv2.heads.deeplab_v3 import DeepLabV3Head
from segmnv2.labels import LabelSet, voc_palette
from segmnv2.models.classifier import create_classifier, save_classifier
from segmnv2.models.model_file import load_weights, save_backbone, save_model
from segmnv2.models.pixels import IMAGENET_NORMALIZATION
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model
from segmnv2.tasks.segmentation import build_model as build_segmenter

TORCHVISION: dict[str, Any] = {"width": 0.35, "padding": "symmetric", "norm_eps": 1e-5, "last_conv": True}


def write(path: Path, name: str = "mobilenet_v2", **options: Any) -> Path:
    return save_backbone(path, create_backbone(name, **options), name, options, IMAGENET_NORMALIZATION)


def test_options_that_no_shape_shows_are_compared_and_nothing_is_loaded(tmp_path: Path) -> None:
    path = write(tmp_path / "b.safetensors", **TORCHVISION)
    model = create_model("deeplabv3_mobilenet_v2", width=0.35)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(model, path, backbone_only=True)
    message = str(caught.value)
    assert "norm_eps: 1e-05 in the file, 0.001 in the model" in message
    assert "padding: 'symmetric' in the file, 'tensorflow' in the model" in message
    assert "last_conv" not in message
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_remedy_of_the_message_works(tmp_path: Path) -> None:
    path = write(tmp_path / "b.safetensors", **TORCHVISION)
    with pytest.raises(WeightsError) as caught:
        create_model("deeplabv3_mobilenet_v2", backbone_weights=path)
    _, remedy = str(caught.value).split("in an experiment model.backbone: ")
    section = ModelSection(backbone=parse_yaml(remedy, "remedy", ""), backbone_weights=path)
    model = create_model(section.name, backbone_weights=path, **section.backbone_options)
    assert model.normalization == IMAGENET_NORMALIZATION


def test_another_backbone_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "b.safetensors", "mobilenet_v1", width=0.25)
    with pytest.raises(WeightsError, match=r"backbone mobilenet_v1, the model mobilenet_v2; .*_mobilenet_v1"):
        create_model("deeplabv3_mobilenet_v2", width=0.25, backbone_weights=path)


def test_a_whole_model_is_checked_too(tmp_path: Path) -> None:
    theirs = create_model("deeplabv3_mobilenet_v2", width=0.35, norm_eps=1e-5)
    path = save_model(tmp_path / "m.safetensors", theirs)
    with pytest.raises(WeightsError, match="norm_eps: 1e-05 in the file"):
        create_model("deeplabv3_mobilenet_v2", width=0.35, weights=path)
    load_weights(create_model("deeplabv3_mobilenet_v2", width=0.35, norm_eps=1e-5), path)


def test_segmentation_may_have_other_dilations_of_the_last_stage(tmp_path: Path) -> None:
    """ImageNet models have none, so a backbone may differ, but a whole model may not; lists and tuples are equal."""
    small: dict[str, Any] = {"units": (2, 2, 2, 1), "strided_unit": "first"}
    path = write(tmp_path / "b.safetensors", "resnet101", **small, multi_grid=(1,))
    model = create_model("deeplabv3_resnet101", backbone_weights=path, **small, multi_grid=[2])
    whole = save_model(tmp_path / "m.safetensors", model)
    with pytest.raises(WeightsError, match=r"multi_grid: \[2\] in the file, \[1\] in the model"):
        create_model("deeplabv3_resnet101", weights=whole, **small, multi_grid=(1,))


def test_the_last_layer_of_a_classifier_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "b.safetensors", "shufflenet_v2", width=0.5, last_conv=True)
    model = create_model("deeplabv3_shufflenet_v2", width=0.5)
    assert load_weights(model, path, backbone_only=True).fits


def test_a_model_joined_from_parts_is_not_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "b.safetensors", **TORCHVISION)
    model = Segmenter(create_backbone("mobilenet_v2", width=0.35), DeepLabV3Head(112, 2, aspp=False))
    assert load_weights(model, path, backbone_only=True).fits


def labels(*names: str) -> LabelSet:
    return LabelSet(names, voc_palette(len(names)))


ORDERS = [
    (("a", "c", "b"), "the same classes in another order: 3 in the file, 3 in the model; class 1 is 'b' in the file"),
    (("a", "b", "d"), "other classes: 3 in the file, 3 in the model; class 2 is 'c' in the file, 'd' in the model"),
]


@pytest.mark.parametrize(("names", "message"), ORDERS)
def test_classes_of_a_segmenter_are_compared_by_name(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    network: dict[str, Any] = {"name": "deeplabv3_mobilenet_v2", "width": 0.35}
    path = save_model(tmp_path / "m.safetensors", create_model(**network, labels=labels("a", "b", "c")))
    other = create_model(**network, labels=labels(*names))
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(WeightsError, match=message):
        load_weights(other, path)
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())
    load_weights(other, path, keep_logits=False)
    section = ModelSection(width=0.35, weights=path)
    with pytest.raises(WeightsError, match=message):
        build_segmenter(section, labels(*names))
    assert build_segmenter(section, labels("a", "b", "c")).labels.names == ("a", "b", "c")


def test_numbered_labels_fit_all_names(tmp_path: Path) -> None:
    network: dict[str, Any] = {"name": "deeplabv3_mobilenet_v2", "width": 0.35}
    named = save_model(tmp_path / "named.safetensors", create_model(**network, labels=labels("a", "b", "c")))
    numbered = save_model(tmp_path / "numbered.safetensors", create_model(**network, num_classes=3))
    assert create_model(**network, weights=named).labels.names == ("a", "b", "c")
    model = create_model(**network, num_classes=3)
    load_weights(model, named)
    assert model.labels.names == ("a", "b", "c")
    assert create_model(**network, labels=labels("x", "y", "z"), weights=numbered).labels.names == ("x", "y", "z")


@pytest.mark.parametrize(("names", "message"), ORDERS)
def test_classes_of_a_classifier_are_compared_by_name(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    network: dict[str, Any] = {"name": "mobilenet_v2", "width": 0.35}
    path = save_classifier(tmp_path / "c.safetensors", create_classifier(**network, class_names=("a", "b", "c")))
    with pytest.raises(WeightsError, match=message):
        create_classifier(**network, class_names=names, weights=path)
    create_classifier(**network, class_names=names, weights=path, keep_logits=False)
    assert create_classifier(**network, weights=path).class_names == ("a", "b", "c")
