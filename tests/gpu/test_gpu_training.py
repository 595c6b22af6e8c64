from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from segmnv2.config.training_sections import LossSection
from segmnv2.engines.pytorch import convolutions
from segmnv2.errors import SegmnError
from segmnv2.labels import LabelSet
from segmnv2.tasks.job import build_job
from segmnv2.tasks.loss import SegmentationLoss
from segmnv2.tasks.optimizer import MovingAverage
from segmnv2.tasks.processes import Processes
from segmnv2.training.logs import StepLog
from segmnv2.training.progress_bar import quiet_lightning
from segmnv2.training.run import train
from segmnv2.training.trainer import build_trainer
from tests.training.tiny import ignore, tiny

pytestmark = pytest.mark.gpu

GPU = "device=cuda"
ALL_LOSSES = "loss={cross_entropy: 0.5, focal: 1.0, dice: 1.0, lovasz: 1.0, hard_pixels: 0.3, class_weights: {star: 2}}"

LABELS = LabelSet.numbered(21)

LOSSES: list[dict[str, Any]] = [
    {},
    {"class_weights": {LABELS.names[1]: 3.0}},
    {"hard_pixels": 0.3},
    {"cross_entropy": 0.0, "focal": 1.0},
    {"cross_entropy": 0.0, "dice": 1.0},
    {"cross_entropy": 0.0, "lovasz": 1.0},
]


@pytest.mark.parametrize("values", LOSSES, ids=str)
@pytest.mark.parametrize("ignored", [0.0, 0.4, 1.1])
def test_losses_and_gradients_are_those_of_the_cpu(values: dict[str, Any], ignored: float) -> None:
    generator = torch.Generator().manual_seed(0)
    raw = 3 * torch.randn(3, 21, 5, 6, generator=generator)
    mask = torch.randint(0, 21, (3, 65, 81), generator=generator, dtype=torch.uint8)
    mask[torch.rand(mask.shape, generator=generator) < ignored] = 255
    found = []
    for device in ("cpu", "cuda"):
        given = raw.detach().clone().to(device).requires_grad_()
        loss = SegmentationLoss(LossSection(**values), LABELS).to(device)(given, mask.to(device), 16)
        loss.backward()
        assert given.grad is not None
        found.append((loss.detach().cpu(), given.grad.cpu()))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-3, atol=1e-6)


def test_a_step_has_the_loss_and_gradients_of_the_cpu() -> None:
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        job = build_job(tiny("model.width=1.0"), Processes(), initial_weights=True)
        task = job.task.to(device).train()
        for layer in task.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.0  # devices draw other numbers
        pixels = torch.randint(0, 256, (4, 3, 97, 97), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
        mask = torch.randint(0, 5, (4, 97, 97), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
        with convolutions("ieee", tuned=False):
            loss = task.training_step({"pixels": pixels.to(device), "mask": mask.to(device), "name": ["a"]}, 0)
            assert isinstance(loss, torch.Tensor)
            loss.backward()
        gradient = torch.cat([each.grad.flatten().cpu() for each in task.parameters() if each.grad is not None])
        found.append((float(loss.detach()), gradient))
    (cpu, expected), (gpu, gradient) = found
    assert gpu == pytest.approx(cpu, rel=1e-4)
    assert float((gradient - expected).norm() / expected.norm()) < 1e-2


def test_ieee_is_float32_and_ends_with_its_block() -> None:
    x, weight = torch.randn(2, 64, 33, 33, device="cuda"), torch.randn(64, 64, 3, 3, device="cuda")
    exact = F.conv2d(x.double(), weight.double())

    def error() -> float:
        return float((F.conv2d(x, weight) - exact).norm() / exact.norm())

    before = error()
    with convolutions("ieee", tuned=False):
        assert error() < 1e-5
    assert error() == pytest.approx(before, rel=0.5)


class Watch(pl.Callback):
    """Makes a wait for the GPU an error from the end of one step to the end of a later one."""

    def __init__(self) -> None:
        self.watched = 0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.watched += torch.cuda.get_sync_debug_mode() == 2
        torch.cuda.set_sync_debug_mode("error" if 2 <= trainer.global_step < 6 else "default")

    def on_exception(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "words",
    [
        ("data.num_workers=0",),
        ("data.num_workers=1", "precision=bf16-mixed"),
        ("data.batch_size=4", "optimizer.accumulate=2", "optimizer.clip_norm=1.0"),
        (ALL_LOSSES, "channels_last=false"),
    ],
    ids=str,
)
def test_no_step_waits_for_the_gpu(tmp_path: Path, words: tuple[str, ...]) -> None:
    experiment = tiny(GPU, "steps=8", "validation.every=100", "log.every=100", "average={decay: 0.9}", *words)
    job, watch = build_job(experiment, Processes(), initial_weights=True), Watch()
    callbacks = [MovingAverage(0.9), StepLog(100), watch]
    with quiet_lightning(), convolutions(tuned=True):
        trainer = build_trainer(experiment, tmp_path, "gpu", job.task.timing, Processes(), [], callbacks)
        trainer.fit(job.task, datamodule=job.data)
    assert watch.watched >= 4


def interrupt_after(step: int) -> Any:
    def report(line: str) -> None:
        if line.startswith(f"step {step}/"):
            raise KeyboardInterrupt

    return report


@pytest.mark.usefixtures("deterministic")
def test_a_resumed_run_is_the_unbroken_one_where_sums_have_a_fixed_order(tmp_path: Path) -> None:
    experiment = tiny(GPU, "average={decay: 0.9}", "steps=6", "validation.every=2")
    train(experiment, out=tmp_path / "whole", report=ignore)
    with pytest.raises(KeyboardInterrupt):
        train(experiment, out=tmp_path / "broken", report=interrupt_after(4))
    train(experiment, out=tmp_path / "broken", resume="last", report=ignore)
    whole, broken = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_a_loss_that_is_not_finite_stops_the_run_before_a_state_is_written(tmp_path: Path) -> None:
    words = ("optimizer.lr=1e30", "steps=6", "validation.every=6", "checkpoint.every=3", "log.every=4")
    with pytest.raises(SegmnError, match=r"step [23]: the loss is (nan|inf).*shapes_1_00000\d, shapes_1_00000\d"):
        train(tiny(GPU, *words), out=tmp_path, report=ignore)
    assert not (tmp_path / "last.ckpt").exists()


@pytest.mark.parametrize("precision", ["32", "bf16-mixed", "16-mixed"])
def test_a_run_with_an_average_learns(tmp_path: Path, precision: str) -> None:
    words = ("data.train.length=2", "data.flip=0", "data.scales=[1.0]", "steps=12", "validation.every=12")
    report = train(tiny(GPU, f"precision={precision}", "average={decay: 0.9}", *words), out=tmp_path, report=ignore)
    assert report.score is not None
    entries = [line.split(",")[1] for line in (tmp_path / "metrics.csv").read_text().splitlines()[1:]]
    losses = [float(entry) for entry in entries if entry]
    assert losses[-1] < 0.8 * losses[0]
