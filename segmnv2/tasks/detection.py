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

from segmnv2.coco.boxes import CocoBoxes, PixelBoxes
from segmnv2.config.detection_schema import (
    BoxSource,
    CocoSource,
    DetectionExperiment,
    DetectionOptimizerSection,
    DetectorSection,
)
from segmnv2.data.box_transforms import BoxTransform, collate_boxes
from segmnv2.detection.detector import Detections, Detector, create_detector, load_detector_weights, save_detector
from segmnv2.errors import ConfigError, DatasetError, naming_key
from segmnv2.evaluation.result import pick_samples
from segmnv2.metrics.coco_ap import NAMES, AveragePrecision, coco_ap
from segmnv2.models.cost import count_parameters
from segmnv2.tasks.job import (
    Job,
    RunData,
    color_jitter,
    describe_images,
    describe_network,
    settle_norms,
    starting_options,
    weights_key,
)
from segmnv2.tasks.optimizer import divide_parameters
from segmnv2.tasks.processes import Processes
from segmnv2.tasks.task import Task, epoch_timing


@dataclass(frozen=True)
class DetectionValidation:
    """One validation.

    Attributes:
        step: optimizer steps done.
        precision: average precision over the images of all ranks.
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
        steps: total number of optimizer steps.
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
        with self.validating():
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


def open_boxes(source: BoxSource, key: str) -> CocoBoxes:
    """Open a data set.

    Args:
        source: the data set's section.
        key: its key in the experiment, for messages.

    Raises:
        DatasetError: it is not there or not complete.
    """
    if isinstance(source, CocoSource):
        with naming_key(f"{key}.root"):
            return CocoBoxes.of_split(source.root, source.split)
    with naming_key(f"{key}.annotations"):
        return CocoBoxes(source.images, source.annotations)


def build_box_sets(experiment: DetectionExperiment) -> tuple[CocoBoxes, CocoBoxes]:
    """Open the training set, less its images without a box, and the validation set.

    Raises:
        DatasetError: one is not there or not complete, or no training image has a box.
        ConfigError: they have different categories.
    """
    train = open_boxes(experiment.data.train, "data.train")
    val = open_boxes(experiment.data.val, "data.val")
    if train.class_names != val.class_names:
        ours, theirs = train.class_names, val.class_names
        differing = sorted({f"{number} {name}" for number, name in ours.items() ^ theirs.items()})
        raise ConfigError(
            f"data.train has {len(ours)} categories, data.val {len(theirs)}; {', '.join(differing[:5])} are in one of "
            "them only; give both files the same ids and names"
        )
    train.leave_out_empty()
    if not len(train):
        raise DatasetError(f"{train.folder}: no image of data.train has a box; there is nothing to learn")
    return train, val


def build_box_transform(experiment: DetectionExperiment) -> BoxTransform:
    """Return the augmentation of the training images."""
    data = experiment.data
    colors = color_jitter(data.photometric)
    return BoxTransform(data.flip, iou_crop=data.iou_crop, colors=colors)


def build_detector(
    section: DetectorSection, class_names: Mapping[int, str], *, initial_weights: bool = True
) -> Detector:
    """Build the detector for the categories of a data set, with the weights that the experiment names.

    Args:
        section: the network and its start.
        class_names: category id -> name.
        initial_weights: ``False`` leaves the named weights out, for a run whose own checkpoint follows.

    Raises:
        WeightsError: a named file is missing, damaged or does not fit; nothing ever starts from scratch instead.
    """
    with naming_key(weights_key(section)):
        options = starting_options(section, initial_weights)
        weights, keep_logits = options.pop("weights"), options.pop("keep_logits")
        model = create_detector(
            section.detector,
            section.name,
            class_names=class_names,
            size=section.size,
            output_stride=section.output_stride,
            backbone_weights=options.pop("backbone_weights"),
            backbone_options=options,
            **section.options,
        )
        if weights is not None:
            load_detector_weights(model, weights, keep_logits=keep_logits)
    settle_norms(model, section)
    return model


def build_job(experiment: DetectionExperiment, processes: Processes, *, initial_weights: bool) -> Job:
    """Open all that an experiment names; see :func:`segmnv2.tasks.job.build_job`."""
    train, val = build_box_sets(experiment)
    chosen = pick_samples(PixelBoxes(val), experiment.validation.limit)
    processes.check_validation(len(chosen))
    val.check_boxes_to_find(chosen.indices)
    model = build_detector(experiment.model, train.class_names, initial_weights=initial_weights)
    section, data = experiment.model, experiment.data
    side = model.architecture.size
    single = section.detector == "ssdlite"  # one size for all; others pad a batch, which moves results a little
    return Job(
        DetectionTask(model, experiment, len(train), val.coco),
        RunData(
            PixelBoxes(train),
            chosen,
            build_box_transform(experiment),
            experiment,
            stack=collate_boxes,
            val_batch_size=processes.share(data.batch_size, experiment.optimizer.accumulate) if single else 1,
        ),
        f"{section.detector} on {describe_network(section)}, output stride {section.output_stride}, "
        f"{len(model.class_names)} classes, {count_parameters(model):,} parameters",
        describe_images(train, chosen, experiment),
        f"images at {side}x{side}" if single else f"images at {side} or more",
        len(train),
        {str(number): name for number, name in train.class_names.items()},
        {"train": train, "val": val},
    )
