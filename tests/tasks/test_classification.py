from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from segmnv2.config.classification_schema import ClassificationExperiment
from segmnv2.config.reading import load_any_experiment, parse_any_experiment
from segmnv2.datasets.image_folder import ImageFolder
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.evaluation.classifiers import evaluate_classifier, trained_crop
from segmnv2.models.classifier import create_classifier, load_classifier, save_classifier
from segmnv2.models.model_file import read_model_file
from segmnv2.models.zoo import create_model
from segmnv2.tasks.classification import build_rmsprop, staircase_factor
from segmnv2.tasks.task import epoch_timing
from segmnv2.training.run import train
from tests.image_folders import write_image_folder
from tests.training.tiny import ignore


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with 12 training images and 6 validation images of three classes."""
    root = tmp_path_factory.mktemp("images")
    write_image_folder(root / "train", images=4, seed=1)
    write_image_folder(root / "val", images=2, seed=2)
    return root


def small(folders: Path, *overrides: str) -> ClassificationExperiment:
    values: dict[str, Any] = {
        "name": "small",
        "task": "classification",
        "model": {"width": 0.35, "norm_momentum": 0.1},
        "data": {
            "train": {"kind": "image_folder", "root": str(folders / "train")},
            "val": {"kind": "image_folder", "root": str(folders / "val")},
            "crop_size": 32,
            "batch_size": 4,
            "num_workers": 0,
        },
        "epochs": 2,
        "device": "cpu",
        "log": {"every": 1},
    }
    experiment = parse_any_experiment(values, overrides)
    assert isinstance(experiment, ClassificationExperiment)
    return experiment


def same_weights(ours: Path, theirs: Path) -> bool:
    first, second = load_file(ours / "last.safetensors"), load_file(theirs / "last.safetensors")
    return all(torch.equal(first[key], second[key]) for key in second)


def test_an_epoch_is_the_training_set_once(folders: Path) -> None:
    timing = epoch_timing(small(folders, "epochs=10", "validation.every=2"), images=100)
    assert (timing.steps, timing.validate_every) == (250, 50)
    assert epoch_timing(small(folders, "epochs=0.01"), images=4).steps == 1


def test_the_learning_rate_falls_in_stairs_after_a_warmup() -> None:
    def factor(step: int) -> float:
        return staircase_factor(step, rate_factor=0.5, rate_steps=10, warmup_steps=4)

    assert [factor(step) for step in (0, 1, 3, 9, 10, 19, 20)] == [0.25, 0.5, 1.0, 1.0, 0.5, 0.5, 0.25]


def test_rmsprop_equals_tensorflows(folders: Path) -> None:
    """The mean square begins at 1, epsilon is inside the root, and the momentum includes the learning rate."""
    model = create_classifier("mobilenet_v2", num_classes=3, width=0.35)
    optimizer = build_rmsprop(model, small(folders).optimizer)
    bias = model.logits.bias
    square, momentum, expected = torch.ones_like(bias), torch.zeros_like(bias), bias.detach().clone()
    for gradient in (torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.1, 0.2, 0.3])):
        bias.grad = gradient.clone()
        optimizer.step()
        square = 0.9 * square + 0.1 * gradient**2
        momentum = 0.9 * momentum + 0.045 * gradient / (square + 1.0).sqrt()
        expected -= momentum
    torch.testing.assert_close(bias.detach(), expected)


def test_depthwise_kernels_norms_and_biases_do_not_decay(folders: Path) -> None:
    model = create_classifier("mobilenet_v2", num_classes=3, width=0.35)
    decayed, free = build_rmsprop(model, small(folders).optimizer).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert (decayed["weight_decay"], free["weight_decay"]) == (4e-5, 0.0)
    kernels = {names[id(parameter)] for parameter in decayed["params"]}
    assert "logits.weight" in kernels
    assert not any("depthwise" in name or "norm" in name or name.endswith("bias") for name in kernels)
    assert len(decayed["params"]) + len(free["params"]) == len(names)


@pytest.mark.slow
def test_a_run_learns_the_colors_and_its_validation_equals_the_evaluation(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "train", images=8, seed=1)
    write_image_folder(tmp_path / "val", images=3, seed=2)
    learning = "epochs=30 validation.every=15 optimizer.lr=0.01 optimizer.rate_factor=0.95 loss.label_smoothing=0"
    data = "data.batch_size=12 data.crop_size=64 data.area=[0.5,1] model.norm_momentum=0.3 average.decay=0.9"
    lines: list[str] = []
    result = train(small(tmp_path, *learning.split(), *data.split()), out=tmp_path / "run", report=lines.append)
    assert (result.steps, result.score_name, result.score) == (60, "top-1", 100.0)
    assert any("mobilenet_v2, width 0.35 as a classifier, 3 classes" in line for line in lines)
    assert any("24 images (image_folder) to train, 9 (image_folder) to validate" in line for line in lines)
    assert any(line.startswith("step 30/60: validation top-1") for line in lines)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        measured = [row["val/top1"] for row in csv.DictReader(file) if row["val/top1"]]
    assert len(measured) == 2
    last, images = result.folder.last, ImageFolder(tmp_path / "val")
    assert load_classifier(last).class_names == images.class_names
    assert trained_crop(last) == (64, 0.875)
    evaluation = evaluate_classifier(load_classifier(last), images, crop_size=64, batch_size=4)
    assert (evaluation.accuracy.top1, evaluation.accuracy.images) == (result.score, 9)
    assert [each.top1 for each in evaluation.by_class.values()] == [100.0] * 3
    provenance = read_model_file(last)[1]["provenance"]
    assert (provenance["step"], provenance["val_top1"]) == (60, result.score)


def test_a_resumed_run_equals_an_uninterrupted_one(folders: Path, tmp_path: Path) -> None:
    experiment = small(folders, "checkpoint.every=2", "average={decay: 0.9}", "data.photometric={chance: 1.0}")
    train(experiment, out=tmp_path / "whole", report=ignore)

    def stop(line: str) -> None:
        if line.startswith("step 5/6: loss"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(experiment, out=tmp_path / "broken", report=stop)
    lines: list[str] = []
    train(experiment, out=tmp_path / "broken", resume="last", report=lines.append)
    assert any("resumed at step 4" in line for line in lines)
    assert same_weights(tmp_path / "broken", tmp_path / "whole")
    assert load_any_experiment(tmp_path / "broken" / "config.yaml") == experiment


def test_workers_do_not_change_the_result(folders: Path, tmp_path: Path) -> None:
    train(small(folders, "epochs=1"), out=tmp_path / "none", report=ignore)
    train(small(folders, "epochs=1", "data.num_workers=2"), out=tmp_path / "two", report=ignore)
    assert same_weights(tmp_path / "none", tmp_path / "two")


def test_a_state_holds_each_weight_once(folders: Path, tmp_path: Path) -> None:
    experiment = small(folders, "epochs=0.1", "average={decay: 0.9}")
    state = torch.load(train(experiment, out=tmp_path, report=ignore).folder.state, weights_only=True)
    assert {name.partition(".")[0] for name in state["state_dict"]} == {"model"}
    assert {name.partition(".")[0] for name in state["current_model_state"]} == {"model"}


def test_a_run_is_not_resumed_with_additional_images(folders: Path, tmp_path: Path) -> None:
    write_image_folder(tmp_path / "train", images=4, seed=1)
    places = [f"data.train.root={tmp_path / 'train'}", "epochs=1"]
    train(small(folders, *places), out=tmp_path / "run", report=ignore)
    for number in range(8):
        source = tmp_path / "train" / "red" / "0.png"
        (source.with_name(f"new{number}.png")).write_bytes(source.read_bytes())
    with pytest.raises(ConfigError, match=r"images\.train: '12 \(sha256 .*' before, '20 \("):
        train(small(folders, *places), out=tmp_path / "run", resume="last", report=ignore)


def test_a_classifier_starts_from_a_classifier_of_other_classes_and_segmentation_from_it(
    folders: Path, tmp_path: Path
) -> None:
    other = save_classifier(
        tmp_path / "imagenet.safetensors", create_classifier("mobilenet_v2", num_classes=7, width=0.35)
    )
    with pytest.raises(WeightsError, match="keep_logits"):
        train(small(folders, f"model.weights={other}"), out=tmp_path / "no", report=ignore)
    assert not (tmp_path / "no").exists()
    start = [f"model.weights={other}", "model.keep_logits=false"]
    result = train(small(folders, *start, "epochs=1"), out=tmp_path / "run", report=ignore)
    assert result.best_score is not None
    assert not math.isnan(result.best_score)
    model = create_model("deeplabv3_mobilenet_v2", width=0.35, backbone_weights=result.folder.last)
    classifier = load_classifier(result.folder.last)
    expected = classifier.backbone.state_dict()
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, expected[name])


def test_training_and_validation_need_the_same_classes(folders: Path, tmp_path: Path) -> None:
    write_image_folder(tmp_path / "val", images=1)
    (tmp_path / "val" / "red").rename(tmp_path / "val" / "crimson")
    with pytest.raises(ConfigError, match=r"3 classes, data.val 3; 2 are in one of them only .crimson, red"):
        train(small(folders, f"data.val.root={tmp_path / 'val'}"), out=tmp_path / "run", report=ignore)
