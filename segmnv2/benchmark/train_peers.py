"""Comparison of the training steps of this library, transformers and smp, in turns, each in its own process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from segmnv2.benchmark.compare import Rate, Row, Table, apart, check_count, describe_memory, paired_ratio
from segmnv2.benchmark.machine import describe_machine
from segmnv2.benchmark.peers import PEERS
from segmnv2.benchmark.training_speed import change_tensors
from segmnv2.config.segmentation_schema import Experiment
from segmnv2.data.loader import Batch, training_loader
from segmnv2.data.sample import SegmentationDataset
from segmnv2.data.transforms import TrainTransform
from segmnv2.datasets.shapes import Shapes
from segmnv2.datasets.voc import VocSegmentation
from segmnv2.engines.selection import choose_device
from segmnv2.engines.timing import time_in_turns
from segmnv2.errors import ConfigError
from segmnv2.labels import VOC_LABELS
from segmnv2.models.zoo import create_model
from segmnv2.tasks.processes import keep_freed_memory
from segmnv2.tasks.segmentation import SegmentationTask

OURS, BF16, COMPILED = "segmnv2", "segmnv2, bf16", "segmnv2, compiled"
TRANSFORMERS, SMP, SMP_16 = "transformers", "smp", "smp, stride 16"

TARGETS = {TRANSFORMERS: 1.8, SMP: 3.0}
"""The project's targets on a CPU: segmnv2 should be this many times as fast as the peer."""

DISTINCT = 8
"""Number of batches in memory; further steps reuse them."""

LR, MOMENTUM = 0.007, 0.9


@dataclass(frozen=True)
class StepSetting:
    """Settings that all contenders have in common.

    Attributes:
        root: VOCdevkit with real images; by default images are generated, because their content does not affect speed.
        crop: side of the crops; smp gets the next smaller multiple of 8.
        batch: crops per step.
        steps: number of measured steps.
        warm_up: number of steps before them.
        device: the CPU or a GPU.
        threads: number of PyTorch's threads; its own number by default.
    """

    root: Path | None = None
    crop: int = 513
    batch: int = 4
    steps: int = 10
    warm_up: int = 2
    device: str = "auto"
    threads: int | None = None

    def batches(self) -> list[Batch]:
        """Return batches in memory, made as by `segmnv2 train`."""
        count, side = min(DISTINCT, self.warm_up + self.steps), max(self.crop, 16)
        dataset: SegmentationDataset = (
            Shapes(self.batch * count, (side, side)) if self.root is None else VocSegmentation(self.root, "train")
        )
        loader = training_loader(dataset, TrainTransform(self.crop), batch_size=self.batch, seed=0)
        return list(islice(iter(loader), count))


def compare_steps(
    setting: StepSetting, *, bf16: bool = False, compiled: bool = False, smp_stride_16: bool = False
) -> Table:
    """Measure all contenders in one run.

    Args:
        setting: settings that all contenders have in common.
        bf16: whether to measure this library with bfloat16 autocast too, on a GPU.
        compiled: whether to measure this library with torch.compile too.
        smp_stride_16: whether to measure smp at this library's output stride too.

    Raises:
        SegmnError: an argument is invalid, or the data are missing.
    """
    for name in ("crop", "batch", "steps"):
        check_count(f"--{name}", getattr(setting, name))
    device = choose_device(setting.device)
    if bf16 and device.type == "cpu":
        raise ConfigError("--bf16: CPUs compute wrong gradients in bfloat16 (docs/training.md); give --device cuda")
    if setting.root is not None:
        VocSegmentation(setting.root, "train")  # missing files are reported before the processes start
    others = {BF16: bf16, COMPILED: compiled, TRANSFORMERS: True, SMP: True, SMP_16: smp_stride_16}
    names = [OURS, *(name for name, wanted in others.items() if wanted)]
    with apart({name: (build_step, setting, name) for name in names}) as steps:
        seconds = time_in_turns(steps, rounds=setting.steps, warm_up=setting.warm_up)
        memory = {name: step.finish() for name, step in steps.items()}
    rows, verdict = [], []
    for name, values in seconds.items():
        note = ""
        if name in (BF16, COMPILED):
            note = f"{paired_ratio(seconds[OURS], values):.2f} times as fast as {OURS}"
        elif name != OURS:
            ratio = paired_ratio(values, seconds[OURS])
            note = f"{OURS} is {ratio:.2f} times as fast"
            if name in TARGETS and device.type == "cpu":
                reached = "reached" if ratio.value >= TARGETS[name] else "missed"
                verdict.append(f"{OURS} to {name}: {ratio.value:.2f}, target {TARGETS[name]:g}: {reached}.")
        rows.append(Row(name, Rate.of(setting.batch, values), note))
    environment = {
        **describe_machine(str(device)),
        "device": str(device),
        "images": "VOC" if setting.root else "generated",
        "batch": setting.batch,
        "crop": setting.crop,
        "steps": setting.steps,
        **describe_memory(memory),
    }
    return Table(tuple(rows), tuple(verdict), environment)


def build_step(setting: StepSetting, name: str) -> Callable[[int], object]:
    """Return a contender's step, with its data in memory; the step takes its number."""
    device = choose_device(setting.device)
    if setting.threads:
        torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    batches = setting.batches()
    if name.startswith(OURS):
        if device.type == "cpu":
            keep_freed_memory()  # as `segmnv2 train` does
        ours = OurStep(device, bf16=name == BF16, compiled=name == COMPILED)
        return lambda number: float(ours(batches[number % len(batches)]))
    peer = PeerStep(SMP if name == SMP_16 else name, device, 8 if name == SMP else 16)  # 8 is smp's default
    prepared = [peer.prepare(batch) for batch in batches]
    return lambda number: float(peer(prepared[number % len(prepared)]))


class OurStep:
    """The step of `segmnv2 train`, with its task, loss, optimizer and schedule. It takes uint8 pixels, channels last.

    Args:
        device: the device.
        bf16: whether to train in mixed precision.
        compiled: whether to use `torch.compile`.
        output_stride: output stride of the model.
        channels_last: whether maps are channels last in memory.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        bf16: bool = False,
        compiled: bool = False,
        output_stride: int = 16,
        channels_last: bool = True,
    ) -> None:
        shapes = {"kind": "shapes", "length": 1}
        values = {"steps": 10**6, "data": {"train": shapes, "val": shapes}, "precision": "bf16-mixed" if bf16 else 32}
        layout = {"channels_last": channels_last, "compile": compiled}
        experiment = Experiment.model_validate({"name": "step", **values, **layout})
        model = create_model("deeplabv3_mobilenet_v2", output_stride=output_stride, labels=VOC_LABELS)
        self.task = SegmentationTask(model, experiment).to(device).train()
        plan = self.task.configure_optimizers()
        self.optimizer, self.schedule = plan["optimizer"], plan["lr_scheduler"]["scheduler"]
        self.device, self.bf16 = device, bf16

    def __call__(self, batch: Batch) -> Tensor:
        """Train on a batch and return the loss, without waiting for it."""
        moved = change_tensors(batch, lambda tensor: tensor.to(self.device, non_blocking=True))
        self.task.on_train_batch_start(moved, 0)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.task.training_step(moved, 0)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()


class PeerStep:
    """A peer's step as in its documentation: eager, NCHW in memory, float32, SGD with momentum.

    transformers computes its own loss, by `forward(labels=...)`; the loss of the others is cross-entropy.

    Args:
        name: name of the peer.
        device: the device.
        output_stride: one of the peer's output strides.
        bf16: whether to train in mixed precision.
    """

    def __init__(self, name: str, device: torch.device, output_stride: int = 16, *, bf16: bool = False) -> None:
        self.peer = PEERS[name].build(VOC_LABELS.num_classes, output_stride, None)
        self.peer.requires_grad_(True).train().to(device)
        self.optimizer = torch.optim.SGD(self.peer.parameters(), lr=LR, momentum=MOMENTUM)
        self.device, self.has_loss, self.bf16 = device, name == TRANSFORMERS, bf16

    def prepare(self, batch: Batch) -> Batch:
        """Return the batch in the form of the peer's own loader, NCHW with sides that the peer takes; not timed."""
        return change_tensors(batch, self.peer.crop)

    def __call__(self, batch: Batch) -> Tensor:
        """Train on a prepared batch and return the loss, without waiting for it."""
        pixels = batch["pixels"].to(self.device, non_blocking=True).float().div_(255)
        pixels = pixels.sub_(self.peer.mean).div_(self.peer.std)
        mask = batch["mask"].to(self.device, non_blocking=True).long()
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss: Tensor = (
                self.peer.network(pixel_values=pixels, labels=mask).loss
                if self.has_loss
                else F.cross_entropy(
                    self.peer.read(self.peer.network(pixels)), mask, ignore_index=VOC_LABELS.ignore_index
                )
            )
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()
