"""Effects of an experiment's options on training."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from timm.layers.evo_norm import EvoNorm2dB0
from timm.layers.norm_act import BatchNormAct2d

from segmnv2.config.reading import parse_experiment
from segmnv2.config.segmentation_schema import ModelSection
from segmnv2.config.training_sections import OptimizerSection
from segmnv2.datasets.shapes import SHAPES_LABELS, Shapes
from segmnv2.errors import ConfigError
from segmnv2.evaluation.result import pick_samples
from segmnv2.models.model_file import save_model
from segmnv2.models.pixels import IMAGENET_NORMALIZATION
from segmnv2.models.zoo import create_model
from segmnv2.nn.network import Network, freeze_batch_norm, statistical_norms
from segmnv2.tasks.job import RunData
from segmnv2.tasks.optimizer import build_schedule, poly_factor
from segmnv2.tasks.processes import Processes
from segmnv2.tasks.segmentation import SegmentationTask, build_transform, segmentation_metrics
from segmnv2.tasks.task import Timing
from segmnv2.training import logs
from segmnv2.training.logs import StepLog, read_rows
from segmnv2.training.run import train
from segmnv2.training.run_folder import RunFolder
from segmnv2.training.trainer import SynchronizedNorms, build_trainer
from tests.training.tiny import TINY, ignore, tiny

EQUAL_PARTS = ("data.flip=0", "data.scales=[1.0]", "optimizer.momentum=0", "optimizer.power=0")
"""Options that give all crops the same number of labeled pixels, so that a mean of means equals the mean."""


@pytest.fixture
def start(tmp_path: Path) -> Path:
    path = tmp_path / "start.safetensors"
    save_model(path, create_model("deeplabv3_mobilenet_v2", labels=SHAPES_LABELS, width=0.35))
    return path


def frozen(start: Path, *overrides: str) -> Any:
    values = {**TINY, "model": {"width": 0.35, "weights": str(start), "norms": "frozen"}}
    return parse_experiment(values, overrides)


def trained(folder: Path, experiment: Any) -> dict[str, torch.Tensor]:
    return load_file(train(experiment, out=folder, report=ignore).folder.last)


def test_a_batch_in_parts_equals_the_whole_batch(tmp_path: Path, start: Path) -> None:
    overrides = (*EQUAL_PARTS, "data.batch_size=4", "steps=2")
    whole = trained(tmp_path / "whole", frozen(start, *overrides))
    parts = trained(tmp_path / "parts", frozen(start, *overrides, "optimizer.accumulate=2"))
    before = load_file(start)
    moved = 0
    for name, value in whole.items():
        if not value.is_floating_point():
            continue
        torch.testing.assert_close(parts[name], value, rtol=1e-2, atol=2e-3)
        moved += int(not torch.equal(value, before[name]))
    assert moved > 50
    losses = [float(read_rows(tmp_path / name / "metrics.csv")[0]["train/loss"]) for name in ("whole", "parts")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_the_logged_loss_is_the_mean_of_all_parts_and_processes() -> None:
    entries: list[Any] = []
    trainer: Any = SimpleNamespace(
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.1}])],
        world_size=2,
        accumulate_grad_batches=2,
        global_step=1,
        max_steps=1,
        strategy=SimpleNamespace(reduce=lambda loss, reduce_op: torch.stack([loss, torch.tensor(5.0)]).mean()),
        loggers=[SimpleNamespace(log_metrics=lambda entry, step: entries.append(entry))],
    )
    log, task = StepLog(1), SimpleNamespace()
    for part, loss in enumerate((1.0, 3.0)):
        batch, outputs = {"name": ["a"]}, {"loss": torch.tensor(loss) / 2}  # Lightning's share of the step
        log.on_train_batch_start(trainer, task, batch, part)  # type: ignore[arg-type]
        log.on_train_batch_end(trainer, task, outputs, batch, part)  # type: ignore[arg-type]
    assert [entry["train/loss"] for entry in entries] == [3.5]


def test_a_batch_that_cannot_be_divided_into_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.batch_size: 2 cannot be divided among 3 parts of a step"):
        train(tiny("optimizer.accumulate=3"), out=tmp_path, report=ignore)


def test_frozen_norms_keep_their_statistics_while_their_shifts_are_trained(tmp_path: Path, start: Path) -> None:
    before, after = load_file(start), trained(tmp_path / "run", frozen(start, "steps=3"))
    assert all(torch.equal(after[name], before[name]) for name in before if ".running_" in name)
    assert any(not torch.equal(after[name], before[name]) for name in before if name.endswith("norm.bias"))


@pytest.mark.parametrize("overrides", [["model.norm_momentum=0.1"], ["model.weights=null"]])
def test_frozen_norms_need_statistics_and_no_momentum(start: Path, overrides: list[str]) -> None:
    with pytest.raises(ConfigError, match="norms 'frozen'"):
        frozen(start, *overrides)


def test_norms_of_pretrained_weights_can_be_frozen() -> None:
    backbone = {"model": "test_resnet", "pretrained": True}
    section = ModelSection(name="deeplabv3_timm", backbone=backbone, norms="frozen")
    assert section.norms == "frozen"
    with pytest.raises(ValueError, match="norms 'frozen'"):
        ModelSection(name="deeplabv3_timm", backbone={**backbone, "pretrained": False}, norms="frozen")


def test_training_pads_with_the_models_mean_pixel() -> None:
    experiment = tiny("data.crop_size=65", "data.scales=[1.0]", "data.flip=0")
    model = create_model("deeplabv3_mobilenet_v2", num_classes=5, width=0.35, normalization=IMAGENET_NORMALIZATION)
    shapes = Shapes(4, (40, 33), seed=0)
    data = RunData(shapes, shapes, build_transform(experiment, shapes.labels), experiment)
    place = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        world_size=1, global_rank=0, global_step=0, strategy=place, lightning_module=SimpleNamespace(model=model)
    )
    batch = next(iter(data.train_dataloader()))
    assert {tuple(pixel) for pixel in batch["pixels"][0, :, 40:].flatten(1).T.tolist()} == {(124, 116, 104)}


@pytest.mark.parametrize("last", [True, False])
def test_the_memory_layout_of_maps_is_that_of_the_experiment(last: bool) -> None:
    model = create_model("deeplabv3_mobilenet_v2", labels=SHAPES_LABELS, width=0.35)
    SegmentationTask(model, tiny(f"channels_last={str(last).lower()}"))
    found: list[bool] = []
    for layer in model.backbone.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda _m, _i, map_: found.append(map_.is_contiguous()))
    pixels = torch.zeros(2, 33, 33, 3, dtype=torch.uint8).permute(0, 3, 1, 2)  # as loaders give them
    model(pixels)
    assert any(found) is not last


def test_a_mean_over_some_classes_states_their_number() -> None:
    model = create_model("deeplabv3_mobilenet_v2", labels=SHAPES_LABELS, width=0.35)
    task, confusion = SegmentationTask(model, tiny()), torch.zeros(5, 5, dtype=torch.int64)
    confusion[0, 0] = 9
    words = task.describe_validation(segmentation_metrics(confusion, SHAPES_LABELS))
    assert words == "mIOU 100.00 % over 1 of 5 classes, pixel accuracy 100.00 %"
    words = task.describe_validation(segmentation_metrics(confusion + 1, SHAPES_LABELS))
    assert "over" not in words


def test_a_clipped_gradient_limits_the_step(tmp_path: Path, start: Path) -> None:
    overrides = ("steps=1", "optimizer.momentum=0", "optimizer.weight_decay=0", "optimizer.lr=1.0")
    before = load_file(start)

    def length(folder: str, clip: str) -> float:
        after = trained(tmp_path / folder, frozen(start, *overrides, f"optimizer.clip_norm={clip}"))
        doubled = "head.logits.bias"  # has twice the learning rate
        steps = (
            (after[name] - before[name]).norm() / (2 if name == doubled else 1)
            for name in before
            if before[name].is_floating_point()
        )
        return math.sqrt(sum(float(step) ** 2 for step in steps))

    assert length("clipped", "0.01") == pytest.approx(0.01, rel=1e-3)
    assert length("free", "null") > 0.02


def test_the_learning_rate_rises_linearly_and_then_follows_the_schedule() -> None:
    section = OptimizerSection(lr=2.0, warmup_steps=4)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=section.lr)
    schedule = build_schedule(optimizer, section, steps=10)
    rates = []
    for _ in range(10):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    poly = [2.0 * poly_factor(step, steps=10, power=0.9) for step in range(10)]
    assert rates[:4] == pytest.approx([poly[step] * (step + 1) / 4 for step in range(4)])
    assert rates[4:] == pytest.approx(poly[4:])


def test_synchronized_norms_need_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"model\.norms: 'synchronized' needs GPUs"):
        train(tiny("model.norms=synchronized"), out=tmp_path, report=ignore)


def test_several_processes_synchronize_every_norm_or_refuse_it(tmp_path: Path) -> None:
    experiment = tiny("model.norms=synchronized")
    trainer = build_trainer(experiment, tmp_path, "cpu", Timing(1, 1), Processes(2, 0, 2), [], [])
    synchronize = trainer.strategy._layer_sync  # type: ignore[attr-defined]
    assert isinstance(synchronize, SynchronizedNorms)
    model = create_model("deeplabv3_mobilenet_v2", labels=SHAPES_LABELS, width=0.35)
    names = set(model.state_dict())
    assert set(synchronize.apply(model).state_dict()) == names
    assert all(isinstance(norm, torch.nn.SyncBatchNorm) for norm in statistical_norms(model))
    with pytest.raises(ConfigError, match=r"not possible for layers of the kind EvoNorm2dB0"):
        synchronize.apply(torch.nn.Sequential(torch.nn.BatchNorm2d(4), EvoNorm2dB0(4)))


def test_norms_of_other_libraries_are_frozen_and_take_the_momentum() -> None:
    class Foreign(Network):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = torch.nn.Sequential(EvoNorm2dB0(4), BatchNormAct2d(4), torch.nn.SyncBatchNorm(4))
            self.head = torch.nn.BatchNorm1d(4)

    network = Foreign()
    network.set_norm_momentum(0.25)
    assert {norm.momentum for norm in statistical_norms(network)} == {0.25}
    freeze_batch_norm(network, backbone_only=True)
    network.backbone[0] = EvoNorm2dB0(4)  # a change of the output stride replaces layers too
    network.train()
    assert [norm.training for norm in statistical_norms(network)] == [False, False, False, True]


def test_tensorboard_shows_the_same_images_after_each_validation(tmp_path: Path) -> None:
    train(tiny("steps=4", "log.pictures=2"), out=tmp_path, report=ignore)
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()["images"]
    assert tags == ["val/shapes_2_000000", "val/shapes_2_000002"]
    for tag in tags:
        assert [(image.step, image.height, image.width) for image in events.Images(tag)] == [(2, 48, 144), (4, 48, 144)]


@pytest.mark.parametrize(("total", "limit"), [(10, 4), (3, 5), (5, 1), (5000, 3000), (5, None)])
def test_limited_validation_samples_are_distributed_over_the_whole_set(total: int, limit: int | None) -> None:
    chosen = pick_samples(Shapes(total), limit).indices
    assert len(set(chosen)) == min(total, limit or total)
    assert list(chosen) == sorted(chosen)
    if len(chosen) > 1:
        assert (chosen[0], chosen[-1]) == (0, total - 1)


def test_the_losses_of_an_experiment_are_minimized(tmp_path: Path) -> None:
    def first_loss(name: str, *overrides: str) -> float:
        train(tiny("steps=1", *overrides), out=tmp_path / name, report=ignore)
        with (tmp_path / name / "metrics.csv").open(newline="") as file:
            return float(next(csv.DictReader(file))["train/loss"])

    plain = first_loss("plain")
    assert first_loss("double", "loss.cross_entropy=2") == pytest.approx(2 * plain, rel=1e-4)
    assert first_loss("more", "loss.dice=1") > plain


def test_an_experiment_can_request_a_compiled_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []

    def compile_nothing(function: Any) -> Any:
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compile_nothing)
    train(tiny("steps=1"), out=tmp_path / "plain", report=ignore)
    assert not compiled
    train(tiny("steps=1", "compile=true", "average={}"), out=tmp_path / "compiled", report=ignore)
    assert len(compiled) == 1


def test_a_missing_wandb_package_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(**_: Any) -> None:
        raise ModuleNotFoundError("wandb")

    monkeypatch.setattr(logs, "WandbLogger", missing)
    with pytest.raises(ConfigError, match=r"log\.wandb: 'mine' needs the package wandb"):
        train(tiny("log.wandb=mine"), out=tmp_path, report=ignore)


def test_a_resumed_run_keeps_its_id_at_weights_and_biases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(logs, "WandbLogger", lambda **values: given.append(values))
    for _ in range(2):
        logs.build_wandb_log(tiny("log.wandb=mine"), tmp_path, RunFolder(tmp_path).wandb_id)
    assert given[0] == given[1]
    RunFolder(tmp_path).begin(tiny(), overwrite=True)
    logs.build_wandb_log(tiny("log.wandb=mine"), tmp_path, RunFolder(tmp_path).wandb_id)
    assert given[2]["id"] != given[0]["id"]
    assert (given[0]["project"], given[0]["name"]) == ("mine", "tiny")
