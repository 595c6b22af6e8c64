"""Settings of the GPU benchmark."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segmnv2.benchmark.machine import core_count, describe_machine
from segmnv2.engines.selection import choose_device
from segmnv2.labels import VOC_LABELS
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model

NEEDS_GPU = "needs a GPU of NVIDIA's"

DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class GpuSetting:
    """Settings that all tables have in common.

    Attributes:
        root: VOCdevkit with real images; by default images are generated.
        crop: side of crops and of images.
        batch: crops per training step.
        batches: numbers of images that are labeled at once.
        strides: output strides of training.
        burst: training steps, or batches of images, per turn.
        rounds: largest number of turns of each contender.
        seconds: time for all tables; contenders without remaining time are not measured.
        compiled: whether to measure ``torch.compile`` too.
        device: a GPU, or the CPU to try the command.
    """

    root: Path | None = None
    crop: int = 513
    batch: int = 16
    batches: tuple[int, ...] = (1, 8, 32)
    strides: tuple[int, ...] = (16, 8)
    burst: int = 5
    rounds: int = 15
    seconds: float = 420.0
    compiled: bool = True
    device: str = "auto"

    @property
    def place(self) -> torch.device:
        """The device."""
        return choose_device(self.device)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a CUDA GPU."""
        return self.place.type == "cuda"

    @property
    def refusal_of_compiled(self) -> str | None:
        """The reason why nothing is compiled; ``None`` if it is."""
        return None if self.compiled else "left out on request"

    @property
    def workers(self) -> int:
        """Number of reading processes of the loader."""
        return max(0, min(12, core_count() - 2)) if self.on_gpu else 0

    def model(self) -> Segmenter:
        """Return the paper's network without ASPP at output stride 16, untrained."""
        torch.manual_seed(0)
        return create_model("deeplabv3_mobilenet_v2", output_stride=16, labels=VOC_LABELS).eval()

    def describe(self) -> dict[str, Any]:
        """Return the properties of machine and setting that affect speed, as JSON values."""
        versions: dict[str, Any] = {}
        if self.on_gpu:
            versions = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "driver": driver_version()}  # type: ignore[no-untyped-call]
        return {**describe_machine(str(self.place)), **versions, "device": str(self.place), "crop": self.crop}


def driver_version() -> str | None:
    """Return the version of NVIDIA's driver; ``None`` if the system does not report it."""
    with suppress(OSError):
        if found := re.search(r"(\d+\.\d+\.\d+)", DRIVER.read_text(encoding="utf-8")):
            return found[1]
    return None
