"""Parts of a run, for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import lightning.pytorch as pl

from segmnv2.config import AnyExperiment, ClassificationExperiment, DetectionExperiment, Experiment
from segmnv2.counting import counted
from segmnv2.data.box_transforms import collate_boxes
from segmnv2.data.image_transforms import collate_images
from segmnv2.datasets.coco_boxes import PixelBoxes
from segmnv2.evaluation.result import spread_samples
from segmnv2.labels import LabelSet
from segmnv2.models.cost import count_parameters
from segmnv2.training.build import (
    build_box_sets,
    build_box_transform,
    build_classifier,
    build_datasets,
    build_detector,
    build_image_folders,
    build_image_transforms,
    build_model,
    build_transform,
)
from segmnv2.training.classification import ClassificationTask
from segmnv2.training.data_module import RunData
from segmnv2.training.detection import DetectionTask
from segmnv2.training.image_log import Pictures
from segmnv2.training.processes import Processes
from segmnv2.training.record import count_shared
from segmnv2.training.segmentation import SegmentationTask
from segmnv2.training.task import Task


@dataclass(frozen=True)
class Job:
    """A task with its data.

    Attributes:
        task: what is learned.
        data: the loaders.
        network: the network in words.
        shown: kinds and numbers of the images, in words.
        seen: what of an image a step sees, in words.
        images: number of training images.
        classes: id -> name, and what is ignored.
        datasets: ``train`` and ``val``, whole.
        callbacks: beside those that every run has.
    """

    task: Task
    data: RunData[Any]
    network: str
    shown: str
    seen: str
    images: int
    classes: Mapping[str, Any]
    datasets: Mapping[str, Any]
    callbacks: Sequence[pl.Callback] = ()


@singledispatch
def build_job(experiment: Any, processes: Processes, *, initial_weights: bool) -> Job:
    """Open all that an experiment names.

    Args:
        experiment: of any task.
        processes: of which each needs something to validate.
        initial_weights: ``False`` leaves the named weights out, for a run whose own checkpoint follows.

    Raises:
        ConfigError: data sets that do not belong together, or too few images to validate.
        DatasetError: a data set is missing or faulty.
        WeightsError: named weights are missing or do not fit.
    """
    raise NotImplementedError(type(experiment))


@build_job.register
def _segmentation(experiment: Experiment, processes: Processes, *, initial_weights: bool) -> Job:
    train, val = build_datasets(experiment)
    chosen = spread_samples(val, experiment.validation.limit)
    processes.check_validation(len(chosen))
    model = build_model(experiment.model, train.labels, initial_weights=initial_weights)
    section, data = experiment.model, experiment.data
    options = "".join(f", {key} {value}" for key, value in section.backbone_options.items())
    return Job(
        SegmentationTask(model, experiment),
        RunData(train, chosen, build_transform(experiment, train.labels), experiment),
        f"{section.name}{options}, output stride {section.output_stride}, {model.num_classes} classes, "
        f"{count_parameters(model):,} parameters",
        f"{counted(len(train), 'image')} ({data.train.kind}) to train, {len(chosen)} ({data.val.kind}) to validate",
        f"crops of {data.crop_size}x{data.crop_size}",
        len(train),
        {**_numbered(train.labels.names), **_meaning(train.labels)},
        {"train": train, "val": val},
        [Pictures(experiment.log.pictures)],
    )


@build_job.register
def _classification(experiment: ClassificationExperiment, processes: Processes, *, initial_weights: bool) -> Job:
    train, val = build_image_folders(experiment)
    chosen = spread_samples(val, experiment.validation.limit)
    processes.check_validation(len(chosen))
    model = build_classifier(experiment.model, train.class_names, initial_weights=initial_weights)
    transform, val_transform = build_image_transforms(experiment)
    section, data = experiment.model, experiment.data
    options = "".join(f", {key} {value}" for key, value in section.backbone_options.items())
    return Job(
        ClassificationTask(model, experiment, len(train)),
        RunData(
            train,
            chosen,
            transform,
            experiment,
            stack=collate_images,
            val_transform=val_transform,
            val_batch_size=processes.share(data.batch_size, experiment.optimizer.accumulate),
        ),
        f"{section.name}{options} as a classifier, {model.num_classes} classes, {count_parameters(model):,} parameters",
        f"{counted(len(train), 'image')} ({data.train.kind}) to train, {len(chosen)} ({data.val.kind}) to validate",
        f"crops of {data.crop_size}x{data.crop_size}",
        len(train),
        _numbered(train.class_names),
        {"train": train, "val": val},
    )


@build_job.register
def _detection(experiment: DetectionExperiment, processes: Processes, *, initial_weights: bool) -> Job:
    train, val = build_box_sets(experiment)
    chosen = spread_samples(PixelBoxes(val), experiment.validation.limit)
    processes.check_validation(len(chosen))
    model = build_detector(experiment.model, train.class_names, initial_weights=initial_weights)
    section, data = experiment.model, experiment.data
    options = "".join(f", {key} {value}" for key, value in section.backbone_options.items())
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
        f"{section.detector} on {section.name}{options}, output stride {section.output_stride}, "
        f"{len(model.class_names)} classes, {count_parameters(model):,} parameters",
        f"{counted(len(train), 'image')} ({data.train.kind}) to train, {len(chosen)} ({data.val.kind}) to validate",
        f"images at {side}x{side}" if single else f"images at {side} or more",
        len(train),
        {str(number): name for number, name in train.class_names.items()},
        {"train": train, "val": val},
    )


def _meaning(labels: LabelSet) -> dict[str, Any]:
    """Return on what, beside names, the ids of masks depend; colors as in HTML."""
    colors = [*labels.palette, *([labels.void_color] if labels.void_color else [])]
    return {"ignore_index": labels.ignore_index, "palette": " ".join(bytes(color).hex() for color in colors)}


def _numbered(names: Sequence[str]) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names)}


def describe_job(job: Job, experiment: AnyExperiment, processes: Processes, place: str) -> list[str]:
    """Return in a few lines what is trained on what.

    Args:
        job: the task and its data.
        experiment: which it was built from.
        processes: which take part.
        place: what is computed on.
    """
    section, data, steps = experiment.model, experiment.data, job.task.timing.steps
    origin = "from scratch"
    if start := section.weights or section.backbone_weights:
        origin = f"from {'the backbone of ' if section.weights is None else ''}{start}"
    elif section.backbone_options.get("pretrained"):
        origin = f"from {section.backbone_name}'s weights of the backbone"
    several = f", {processes.count} processes on {processes.machines} machine(s)" if processes.count > 1 else ""
    return [
        f"model     {job.network}, {origin}",
        f"data      {job.shown}",
        f"training  {counted(steps, 'step')} of {data.batch_size} {job.seen} "
        f"({steps * data.batch_size / job.images:.1f} epochs), precision {experiment.precision}, on {place}{several}",
        *_schedule_warnings(experiment, job),
        *_shared_warning(job),
    ]


def _shared_warning(job: Job) -> list[str]:
    """Return a line if images are both trained and validated on."""
    train, val = job.datasets["train"], job.datasets["val"]
    shared = count_shared(train, val)
    if not shared:
        return []
    score = job.task.score_name
    return [
        f"warning: {shared} of the {len(val)} images of data.val are in data.train, too: the {score} will be higher "
        "than on new images; validate on others"
    ]


def _schedule_warnings(experiment: AnyExperiment, job: Job) -> list[str]:
    """Return a line for each part of the schedule that lies beyond the end of the run."""
    section, steps = experiment.optimizer, job.task.timing.steps
    per_epoch = job.images / experiment.data.batch_size
    warmup = {
        "warmup_steps": float(getattr(section, "warmup_steps", 0)),
        "warmup_epochs": getattr(section, "warmup_epochs", 0.0) * per_epoch,
    }
    lines = [
        f"warning: optimizer.{key} is {getattr(section, key)}, and the run has {counted(steps, 'step')}"
        f"{f' ({steps / per_epoch:.1f} epochs)' if key.endswith('epochs') else ''}: the learning rate never reaches "
        f"optimizer.lr; give {key} a tenth of the run or less"
        for key, needed in warmup.items()
        if needed > steps
    ]
    late = [epoch for epoch in getattr(section, "milestones", ()) if epoch * per_epoch >= steps]
    if late:
        lines.append(
            f"warning: optimizer.milestones: {', '.join(map(str, late))} are not before the end of the run "
            f"({steps / per_epoch:.1f} epochs), so the learning rate does not fall there"
        )
    return lines
