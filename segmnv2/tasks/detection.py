"""Training of detectors: task, data and job."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
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
from segmnv2.metrics.coco_ap import NAMES, coco_ap
from segmnv2.models.cost import count_parameters
from segmnv2.tasks.job import (
    Job,
    RunData,
    color_jitter,
    describe_images,
    describe_model,
    set_norms,
    starting_options,
    weights_key,
)
from segmnv2.tasks.optimizer import decay_groups, scheduled, warmup_factor
from segmnv2.tasks.processes import Processes
from segmnv2.tasks.task import Task, epoch_timing


def detection_rate(step: int, section: DetectionOptimizerSection, *, steps: int, per_epoch: float) -> float:
    """Return the factor of the learning rate after a number of steps.

    Args:
        step: number of completed optimizer steps.
        section: the schedule.
        steps: total number of optimizer steps.
        per_epoch: number of optimizer steps per epoch.
    """
    warmup = warmup_factor(step, section.warmup_steps)
    if section.schedule == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))
    return float(warmup * section.factor ** bisect.bisect_right(section.milestones, step / per_epoch))


class DetectionTask(Task):
    """A detector in training: its own losses, SGD, and COCO's average precision.

    Args:
        model: the detector with its initial weights.
        experiment: optimizer, epochs, seed and validation.
        images: number of training images, which make one epoch.
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
        self._detections: dict[int, Detections] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of a validation's measures."""
        return tuple(f"val/{name}" for name in NAMES)

    def describe_validation(self, metrics: Mapping[str, float]) -> str:
        """Return a short text with a validation's measures."""
        return f"AP {metrics['val/ap']:.2f} %, AP50 {metrics['val/ap50']:.2f} %"

    def save_network(self, path: Path, provenance: Mapping[str, Any]) -> Path:
        """Write the detector to a file."""
        return save_detector(path, self.model, provenance)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule, which advances after each step."""
        section, per_epoch = self.experiment.optimizer, self.images / self.experiment.data.batch_size
        groups = decay_groups(self.model, section.weight_decay)

        def factor(step: int) -> float:
            return detection_rate(step, section, steps=self.timing.steps, per_epoch=per_epoch)

        return scheduled(torch.optim.SGD(groups, lr=section.lr, momentum=section.momentum), factor)

    def training_step(self, batch: Any, batch_idx: int) -> Float[Tensor, ""]:
        """Return the sum of the detector's losses, and check it by :meth:`check_finite`."""
        losses = self.model([image.float() / 255 for image in batch["images"]], batch["targets"])
        loss = torch.stack(list(losses.values())).sum()
        self.check_finite(loss, batch, "If their boxes are right")
        return loss

    def on_validation_epoch_start(self) -> None:
        """Discard earlier detections."""
        self._detections = {}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Find the objects in a batch in full precision and store the detections."""
        with self.validating():
            detections = self.model([image.float() / 255 for image in batch["images"]])
        for target, values in zip(batch["targets"], detections, strict=True):
            self._detections[target["image_id"]] = {key: value.cpu() for key, value in values.items()}

    def on_validation_epoch_end(self) -> None:
        """Gather the detections of all ranks and log the average precision."""
        if self.trainer.sanity_checking:
            return
        parts = self.gather(self._detections)
        precision = coco_ap(self.truth, {image: values for part in parts for image, values in part.items()})
        self._detections = {}
        self.finish_validation({f"val/{name}": getattr(precision, name) for name in NAMES})


def open_boxes(source: BoxSource, key: str) -> CocoBoxes:
    """Open a data set.

    Args:
        source: the data set's section.
        key: its key in the experiment, for messages.

    Raises:
        DatasetError: the data set is missing or incomplete.
    """
    if isinstance(source, CocoSource):
        with naming_key(f"{key}.root"):
            return CocoBoxes.of_split(source.root, source.split)
    with naming_key(f"{key}.annotations"):
        return CocoBoxes(source.images, source.annotations)


def build_box_sets(experiment: DetectionExperiment) -> tuple[CocoBoxes, CocoBoxes]:
    """Open the training set, without its images that have no box, and the validation set.

    Raises:
        DatasetError: a data set is missing or incomplete, or no training image has a box.
        ConfigError: the data sets have different categories.
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
        section: the model and its initial weights.
        class_names: category id -> name.
        initial_weights: whether to load the named weights; a resumed run loads its state instead.

    Raises:
        WeightsError: a named file is missing, damaged or does not fit; training never falls back to random weights.
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
    set_norms(model, section)
    return model


def build_job(experiment: DetectionExperiment, processes: Processes, *, initial_weights: bool) -> Job:
    """Open the data and build the model of an experiment; see :func:`segmnv2.tasks.job.build_job`."""
    train, val = build_box_sets(experiment)
    chosen = pick_samples(PixelBoxes(val), experiment.validation.limit)
    processes.check_validation(len(chosen))
    val.check_boxes_to_find(chosen.indices)
    model = build_detector(experiment.model, train.class_names, initial_weights=initial_weights)
    section, data = experiment.model, experiment.data
    side = model.architecture.size
    single = section.detector == "ssdlite"  # one size for all images; padding to a common size changes results slightly
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
        f"{section.detector} on {describe_model(section)}, output stride {section.output_stride}, "
        f"{len(model.class_names)} classes, {count_parameters(model):,} parameters",
        describe_images(train, chosen, experiment),
        f"images at {side}x{side}" if single else f"images at {side} or more",
        len(train),
        {str(number): name for number, name in train.class_names.items()},
        {"train": train, "val": val},
    )
