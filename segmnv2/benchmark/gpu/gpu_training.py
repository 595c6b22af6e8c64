"""Speed of training steps on a GPU by precision and memory layout, beside other libraries, and of a whole run."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from segmnv2.benchmark.compare import Table
from segmnv2.benchmark.gpu.gpu_setting import NEEDS_GPU, GpuSetting
from segmnv2.benchmark.gpu.gpu_turns import Contender, Limits, Step, take_turns
from segmnv2.benchmark.peers import PEERS
from segmnv2.benchmark.train_peers import OurStep, PeerStep, StepSetting
from segmnv2.benchmark.training_speed import benchmark_training, change_tensors
from segmnv2.config.segmentation_schema import Experiment
from segmnv2.data.loader import Batch

TRAINED_PEERS = ("transformers", "torchvision deeplabv3", "smp")

TF32 = 'float32 is PyTorch\'s default, with TF32 in convolutions; "IEEE" is without TF32. bf16 is mixed precision.'


def compare_gpu_steps(setting: GpuSetting, output_stride: int, batches: list[Batch], limits: Limits) -> Table:
    """Measure the speed of training steps, from pixels and masks in pinned memory to updated weights.

    Args:
        setting: model, device and sizes of the measurement.
        output_stride: output stride of the models.
        batches: batches from :func:`read_batches`.
        limits: limits of the table.
    """
    notes = [TF32, *(f"{name}: {PEERS[name].note}." for name in TRAINED_PEERS)]
    described = {**setting.describe(), "output stride": output_stride, "batch": setting.batch, "steps": setting.burst}
    return take_turns(
        step_contenders(setting, output_stride, batches),
        limits,
        device=setting.place,
        images=setting.batch * setting.burst,
        notes=notes,
        environment=described,
    )


def read_batches(setting: GpuSetting) -> list[Batch]:
    """Return batches made as by `segmnv2 train`, in pinned memory if the device is a GPU."""
    count = min(setting.burst, 4)
    return _pinned(setting, StepSetting(setting.root, setting.crop, setting.batch, count, warm_up=0).batches())


def step_contenders(setting: GpuSetting, output_stride: int, batches: list[Batch]) -> dict[str, Contender]:
    """Return the contenders, the most important first, because the time may not suffice for the last ones."""
    gpu = None if setting.on_gpu else NEEDS_GPU
    ours = partial(_our_step, setting, batches, output_stride)
    compiled = partial(ours, bf16=True, compiled=True)
    peers = {
        f"{name} {precision}": _peer(setting, batches, name, output_stride, bf16=precision == "bf16")
        for precision in ("float32", "bf16")
        for name in TRAINED_PEERS
    }
    found = {
        "transformers float32": peers["transformers float32"],
        "segmnv2 float32": Contender(partial(ours, bf16=False)),
        "segmnv2 bf16": Contender(partial(ours, bf16=True), refusal=gpu),
        "segmnv2 bf16, compiled": Contender(compiled, refusal=gpu or setting.refusal_of_compiled),
        "segmnv2 float32, IEEE": Contender(partial(ours, bf16=False), convolutions="ieee", refusal=gpu),
        "torchvision deeplabv3 float32": peers["torchvision deeplabv3 float32"],
        "smp float32": peers["smp float32"],
        "segmnv2 bf16, NCHW": Contender(partial(ours, bf16=True, channels_last=False), refusal=gpu),
        "segmnv2 float32, NCHW": Contender(partial(ours, bf16=False, channels_last=False)),
    }
    return {**found, **peers}


def _peer(setting: GpuSetting, batches: list[Batch], name: str, output_stride: int, *, bf16: bool) -> Contender:
    peer, refusal = PEERS[name], None
    if not peer.installed:
        refusal = f"{peer.package} is not installed"
    elif output_stride not in peer.strides:
        refusal = f"it has no output stride {output_stride}"
    elif bf16 and not setting.on_gpu:
        refusal = NEEDS_GPU
    return Contender(partial(_peer_step, setting, batches, name, output_stride, bf16), peer=True, refusal=refusal)


def measure_gpu_run(setting: GpuSetting, steps: int) -> Table:
    """Measure the step, the loader, and both together in a run, in mixed precision on a GPU.

    Args:
        setting: model, device and sizes of the measurement.
        steps: number of steps per measurement.
    """
    images = 4 * setting.batch
    shapes = {"kind": "shapes", "length": images, "size": max(setting.crop, 16)}
    voc = {"kind": "voc", "root": str(setting.root), "split": "train"}
    source = shapes if setting.root is None else voc
    data = {"train": source, "val": shapes, "crop_size": setting.crop, "num_workers": setting.workers}
    values = {
        "name": "gpu",
        "data": {**data, "batch_size": setting.batch},
        "steps": 10**6,
        "precision": "bf16-mixed" if setting.on_gpu else 32,
        "device": setting.place.type,
        "log": {"every": max(1, setting.workers)},
        "average": {"decay": 0.999},
    }
    return benchmark_training(Experiment.model_validate(values), steps=steps)


def _our_step(
    setting: GpuSetting,
    batches: list[Batch],
    output_stride: int,
    *,
    bf16: bool,
    compiled: bool = False,
    channels_last: bool = True,
) -> Step:
    torch.manual_seed(0)
    options = {"bf16": bf16, "compiled": compiled, "channels_last": channels_last}
    ours = OurStep(setting.place, output_stride=output_stride, **options)
    return lambda _: [ours(batches[place % len(batches)]) for place in range(setting.burst)]


def _peer_step(setting: GpuSetting, batches: list[Batch], name: str, output_stride: int, bf16: bool) -> Step:
    torch.manual_seed(0)
    peer = PeerStep(name, setting.place, output_stride, bf16=bf16)
    prepared = _pinned(setting, [peer.prepare(batch) for batch in batches])
    return lambda _: [peer(prepared[place % len(prepared)]) for place in range(setting.burst)]


def _pinned(setting: GpuSetting, batches: list[Batch]) -> list[Batch]:
    """Return batches in pinned memory if the device is a GPU, which then copies them without a wait."""
    return [change_tensors(batch, Tensor.pin_memory) for batch in batches] if setting.on_gpu else batches
