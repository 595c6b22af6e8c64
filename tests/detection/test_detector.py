from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import segmnv2
from segmnv2.backbones.backbone import create_backbone
from segmnv2.detection.detector import Detector, create_detector, load_detector, load_detector_weights, save_detector
from segmnv2.detection.families import detector_options
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.models.model_file import load_backbone_weights
from segmnv2.models.pixels import Normalization
from segmnv2.nn.network import freeze_batch_norm

CLASSES = {1: "square", 3: "oblong"}
NARROW: dict[str, Any] = {"width": 0.35}
IMAGENET = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def build(detector: str = "ssdlite", **changes: Any) -> Detector:
    torch.manual_seed(0)
    given = {"class_names": CLASSES, "size": 96, "backbone_options": NARROW, **changes}
    return create_detector(detector, **given)


@pytest.mark.parametrize("detector", ["ssdlite", "faster_rcnn"])
def test_a_file_gives_the_detector_back(detector: str, tmp_path: Path) -> None:
    model = build(detector, output_stride=16, normalization=IMAGENET).eval()
    again = load_detector(save_detector(tmp_path / "d.safetensors", model))
    assert again.architecture == model.architecture
    assert again.normalization == model.normalization == IMAGENET
    assert not again.training
    images = [torch.rand(3, 80, 100), torch.rand(3, 96, 64)]
    with torch.no_grad():
        for one, other in zip(model(images), again(images), strict=True):
            assert one.keys() == other.keys() == {"boxes", "labels", "scores"}
            assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_present_output_stride_is_saved(tmp_path: Path) -> None:
    for detector in ("ssdlite", "faster_rcnn"):
        model = build(detector).eval()
        model.backbone.set_output_stride(16)
        again = load_detector(save_detector(tmp_path / "d.safetensors", model))
        image = [torch.rand(3, 80, 100)]
        with torch.no_grad():
            (one,), (other,) = model(image), again(image)
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_options_of_torchvision_are_kept_in_the_file(tmp_path: Path) -> None:
    model = build("faster_rcnn", fpn=False, box_detections_per_img=3)
    again = load_detector(save_detector(tmp_path / "d.safetensors", model))
    assert again.network.roi_heads.detections_per_img == 3
    assert again.network.backbone.fpn is None


def test_other_networks_start_from_its_backbone(tmp_path: Path) -> None:
    model = build()
    path = save_detector(tmp_path / "d.safetensors", model)
    backbone = create_backbone("mobilenet_v2", **NARROW)
    load_backbone_weights(backbone, "mobilenet_v2", NARROW, path)
    own, theirs = backbone.state_dict(), model.backbone.state_dict()
    assert all(torch.equal(own[name], theirs[name]) for name in own)
    segmenter = segmnv2.create_model("deeplabv3_mobilenet_v2", backbone_weights=path, **NARROW)
    assert torch.equal(next(segmenter.backbone.parameters()), next(model.backbone.parameters()))


@pytest.mark.parametrize("detector", ["ssdlite", "faster_rcnn"])
def test_other_classes_take_all_but_the_predictor(tmp_path: Path, detector: str) -> None:
    model, other = build(detector), build(detector, class_names={1: "cat"})
    path = save_detector(tmp_path / "d.safetensors", model)
    with pytest.raises(WeightsError, match="has other classes: 2 in the file, 1 in the model"):
        load_detector_weights(other, path)
    fresh = {k: v.clone() for k, v in other.network.state_dict().items()}
    load_detector_weights(other, path, keep_logits=False)
    theirs, predictor = model.network.state_dict(), other.family.predictor
    for name, tensor in other.network.state_dict().items():
        expected = fresh if name.startswith(predictor) else theirs
        assert torch.equal(tensor, expected[name]), name


def test_weights_of_another_detector_or_backbone_are_refused(tmp_path: Path) -> None:
    path = save_detector(tmp_path / "d.safetensors", build())
    with pytest.raises(WeightsError, match="holds a ssdlite, not a faster_rcnn"):
        load_detector_weights(build("faster_rcnn"), path)
    with pytest.raises(WeightsError, match=r"width: 0\.35 in the file, 0\.5 in the model"):
        load_detector_weights(build(backbone_options={"width": 0.5}), path)
    with pytest.raises(WeightsError, match=r"holds a detector, not a segmentation model.*--dataset coco"):
        segmnv2.load_model(path)
    backbone = segmnv2.save_classifier(tmp_path / "c.safetensors", segmnv2.create_classifier("mobilenet_v2", **NARROW))
    with pytest.raises(WeightsError, match="holds a classifier, not a detector"):
        load_detector(backbone)


def test_weights_of_a_detector_with_other_dilations_are_refused(tmp_path: Path) -> None:
    options = {"units": [2, 2, 2, 2], "multi_grid": [1, 2]}
    path = save_detector(tmp_path / "d.safetensors", build(backbone="resnet101", backbone_options=options))
    with pytest.raises(WeightsError, match=r"multi_grid: \[1, 2\] in the file, \[1, 1\] in the model"):
        load_detector_weights(build(backbone="resnet101", backbone_options={**options, "multi_grid": [1, 1]}), path)


def test_frozen_norms_stay_as_they_are() -> None:
    model = build()
    freeze_batch_norm(model, backbone_only=True)
    model.train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    target = {"boxes": torch.tensor([[4.0, 4.0, 60.0, 60.0]]), "labels": torch.tensor([1])}
    losses = model([torch.rand(3, 96, 96)] * 2, [target] * 2)
    assert torch.isfinite(sum(losses.values()))
    moved = {name for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])}
    assert moved
    assert not any(name.startswith("network.backbone.backbone.") for name in moved)


def test_values_that_are_not_possible_are_named() -> None:
    with pytest.raises(ConfigError, match="detector 'yolo' is unknown; available are faster_rcnn, ssdlite"):
        build("yolo")
    with pytest.raises(ConfigError, match="number the classes from 1"):
        build(class_names={0: "nothing"})
    with pytest.raises(ConfigError, match="ssdlite has no option min_size; it has score_thresh"):
        build(min_size=3)
    with pytest.raises(ConfigError, match=r"faster_rcnn cannot have .*box_fg_iou_thresh.*low_threshold should be <="):
        build("faster_rcnn", box_fg_iou_thresh=0.1)
    assert "box_detections_per_img" in detector_options("faster_rcnn")


@pytest.mark.parametrize(
    ("detector", "given", "expected"),
    [
        ("ssdlite", {"score_thresh": 5.0}, "takes 0 to 1 as score_thresh"),
        ("ssdlite", {"nms_thresh": float("nan")}, "takes 0 to 1 as nms_thresh"),
        ("ssdlite", {"positive_fraction": 0.0}, "takes above 0"),
        ("ssdlite", {"detections_per_img": 0}, "takes 1 or more"),
        ("faster_rcnn", {"size": 1600}, "size 1600 is above max_size 1333"),
    ],
)
def test_options_that_find_nothing_or_change_another_are_refused(
    detector: str, given: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        build(detector, **given)


@pytest.mark.parametrize("detector", ["ssdlite", "faster_rcnn"])
def test_a_single_image_can_be_learned_from(detector: str) -> None:
    """SSDLite's last map is one value then, which has no variance."""
    target = {"boxes": torch.tensor([[4.0, 4.0, 60.0, 60.0]]), "labels": torch.tensor([1])}
    losses = build(detector).train()([torch.rand(3, 96, 96)], [target])
    sum(losses.values()).backward()
    assert torch.isfinite(sum(losses.values()))
