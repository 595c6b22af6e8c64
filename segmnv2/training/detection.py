"""Detection: what happens in a step and in a validation."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pycocotools.coco import COCO
from torch import Tensor

from segmnv2.config import DetectionExperiment, DetectionOptimizerSection
from segmnv2.detection.detector import Detections, Detector
from segmnv2.detection.detector_file import save_detector
from segmnv2.metrics.coco_ap import NAMES, AveragePrecision, coco_ap
from segmnv2.training.optimizer import divide_parameters
from segmnv2.training.task import Task, epoch_timing


@dataclass(frozen=True)
class DetectionValidation:
    """One validation.

    Attributes:
        step: optimizer steps done.
        precision: of the images of all ranks.
    """

    step: int
    precision: AveragePrecision

    @property
    def score(self) -> float:
        """Mean average precision over IoUs of 0.5 to 0.95, in percent."""
        return self.precision.ap


def detection_rate(step: int, section: DetectionOptimizerSection, *, steps: int, per_epoch: float) -> float:
    """Return what the learning rate of step 0, 1, ... is multiplied by.

    Args:
        step: optimizer steps done.
        section: the schedule.
        steps: optimizer steps in all.
        per_epoch: optimizer steps of an epoch.
    """
    rise = min(1.0, (step + 1) / section.warmup_steps) if section.warmup_steps else 1.0
    if section.schedule == "cosine":
        return rise * 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))
    return float(rise * section.factor ** bisect.bisect_right(section.milestones, step / per_epoch))


class DetectionTask(Task):
    """A detector in training: its own losses, SGD, and COCO's average precision.

    Args:
        model: the detector, its weights in place.
        experiment: optimizer, epochs, seed and validation.
        images: number of training images, which an epoch is.
        truth: annotations of the validation images.

    Attributes:
        model: the detector.
    """

    score_name = "AP"
    score_key = "ap"
    model: Detector
    experiment: DetectionExperiment

    def __init__(self, model: Detector, experiment: DetectionExperiment, images: int, truth: COCO) -> None:
        super().__init__(model, experiment, epoch_timing(experiment, images))
        self.images = images
        self.truth = truth
        self._found: dict[int, Detections] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of a validation's measures."""
        return tuple(f"val/{name}" for name in NAMES)

    def describe_validation(self, metrics: Mapping[str, float]) -> str:
        """Return a validation's measures in a few words."""
        return f"AP {metrics['val/ap']:.2f} %, AP50 {metrics['val/ap50']:.2f} %"

    def save_network(self, path: Path, provenance: Mapping[str, Any]) -> Path:
        """Write the network as a detector's file.

        Raises:
            WeightsError: it cannot be written.
        """
        return save_detector(path, self.model, provenance)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule, advanced once a step."""
        section, per_epoch = self.experiment.optimizer, self.images / self.experiment.data.batch_size
        kernels, others = divide_parameters(self.model)
        groups = [
            {"params": kernels, "weight_decay": section.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.SGD(groups, lr=section.lr, momentum=section.momentum)

        def factor(step: int) -> float:
            return detection_rate(step, section, steps=self.timing.steps, per_epoch=per_epoch)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Any, batch_idx: int) -> Float[Tensor, ""]:
        """Return the sum of the detector's losses.

        Raises:
            SegmnError: it is not finite; the files of the batch are named.
        """
        losses = self.model([image.float() / 255 for image in batch["images"]], batch["targets"])
        loss = torch.stack(list(losses.values())).sum()
        self.check_finite(loss, batch, "If their boxes are right")
        return loss

    def on_validation_epoch_start(self) -> None:
        """Begin to collect."""
        self._found = {}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Detect in a batch in full precision, and collect."""
        with torch.autocast(self.device.type, enabled=False):
            found = self.model([image.float() / 255 for image in batch["images"]])
        for target, each in zip(batch["targets"], found, strict=True):
            self._found[target["image_id"]] = {key: value.cpu() for key, value in each.items()}

    def on_validation_epoch_end(self) -> None:
        """Bring the ranks' detections together, measure, and log."""
        if self.trainer.sanity_checking:
            return
        found = self.gather(self._found)
        precision = coco_ap(self.truth, {number: each for part in found for number, each in part.items()})
        self._found = {}
        metrics = {f"val/{name}": getattr(precision, name) for name in NAMES}
        self.finish_validation(DetectionValidation(self.global_step, precision), metrics)
