"""Training of classifiers: task, data and job."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from segmnv2.config.classification_schema import ClassificationExperiment, ClassifierSection, RmspropSection
from segmnv2.data.image_transforms import CentralTransform, CropTransform, collate_images
from segmnv2.datasets.image_folder import ImageFolder
from segmnv2.errors import ConfigError, naming_key
from segmnv2.evaluation.result import pick_samples
from segmnv2.metrics.confusion import TopAccuracy
from segmnv2.models.classifier import Classifier, create_classifier, save_classifier
from segmnv2.models.cost import count_parameters
from segmnv2.tasks.job import (
    Job,
    RunData,
    color_jitter,
    describe_images,
    describe_model,
    numbered,
    set_norms,
    starting_options,
    weights_key,
)
from segmnv2.tasks.optimizer import decay_groups, scheduled, warmup_factor
from segmnv2.tasks.processes import Processes
from segmnv2.tasks.task import Task, epoch_timing


def staircase_factor(step: int, *, rate_factor: float, rate_steps: float, warmup_steps: float) -> float:
    """Return the factor of the learning rate after a number of steps: a staircase with a linear warmup.

    Args:
        step: number of completed optimizer steps.
        rate_factor: ratio of each stair to the one before.
        rate_steps: steps of each stair.
        warmup_steps: steps of the warmup, as in :func:`segmnv2.tasks.optimizer.warmup_factor`.

    Source: ``tf.train.exponential_decay(staircase=True)`` in slim/train_image_classifier.py.
    """
    return warmup_factor(step, warmup_steps) * rate_factor ** math.floor(step / rate_steps)


def build_rmsprop(model: Classifier, section: RmspropSection) -> torch.optim.Optimizer:
    """Return the optimizer; depthwise kernels, norms and biases do not decay.

    Source: slim/train_image_classifier.py (decay 0.9, momentum 0.9, epsilon 1), slim/nets/mobilenet/mobilenet.py
    (``training_scope``: no decay on depthwise kernels).
    """
    from timm.optim.rmsprop_tf import RMSpropTF  # takes a third of a second, and segmentation does not need it

    groups = decay_groups(model, section.weight_decay)
    return RMSpropTF(groups, section.lr, section.alpha, section.epsilon, momentum=section.momentum)


class ClassificationTask(Task):
    """A classifier in training: smoothed cross-entropy, RMSProp, and top-1 and top-5 accuracy.

    Args:
        model: the classifier with its initial weights.
        experiment: loss, optimizer, epochs, seed and validation.
        images: number of training images, which make one epoch.

    Attributes:
        model: the classifier.
    """

    score_name = "top-1"
    score_key = "top1"
    model: Classifier
    experiment: ClassificationExperiment

    def __init__(self, model: Classifier, experiment: ClassificationExperiment, images: int) -> None:
        super().__init__(model, experiment, epoch_timing(experiment, images))
        self.images = images
        self._accuracy = TopAccuracy()
        # A function is compiled, because a compiled module would store its weights in the state again.
        self._logits = torch.compile(model.forward) if experiment.compile else model.forward

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of a validation's measures."""
        return ("val/top1", "val/top5", "val/loss")

    def describe_validation(self, metrics: Mapping[str, float]) -> str:
        """Return a short text with a validation's measures."""
        return f"top-1 {metrics['val/top1']:.2f} %, top-5 {metrics['val/top5']:.2f} %"

    def save_network(self, path: Path, provenance: Mapping[str, Any]) -> Path:
        """Write the classifier to a file."""
        return save_classifier(path, self.model, provenance)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule, which advances after each step."""
        section, per_epoch = self.experiment.optimizer, self.images / self.experiment.data.batch_size

        def factor(step: int) -> float:
            return staircase_factor(
                step,
                rate_factor=section.rate_factor,
                rate_steps=section.rate_epochs * per_epoch,
                warmup_steps=section.warmup_epochs * per_epoch,
            )

        return scheduled(build_rmsprop(self.model, section), factor)

    def training_step(self, batch: Any, batch_idx: int) -> Float[Tensor, ""]:
        """Return the loss of a batch, and check it by :meth:`check_finite`."""
        smoothing = self.experiment.loss.label_smoothing
        loss = F.cross_entropy(self._logits(batch["pixels"]), batch["label"], label_smoothing=smoothing)
        self.check_finite(loss, batch, "If they are in order")
        return loss

    def on_validation_epoch_start(self) -> None:
        """Reset the counts."""
        self._accuracy = TopAccuracy()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Classify a batch in full precision and count the correct classes."""
        with self.validating():
            logits = self.model(batch["pixels"])
        self._accuracy.update(logits.cpu(), batch["label"].cpu())

    def on_validation_epoch_end(self) -> None:
        """Sum the counts over all ranks and log the measures."""
        if self.trainer.sanity_checking:
            return
        total = TopAccuracy.from_counts(self.sum_over_ranks(self._accuracy.to_counts()))
        self.finish_validation({"val/top1": total.top1, "val/top5": total.top5, "val/loss": total.loss})


def build_image_folders(experiment: ClassificationExperiment) -> tuple[ImageFolder, ImageFolder]:
    """Open the training set and the validation set.

    Raises:
        DatasetError: a data set is missing or incomplete.
        ConfigError: the data sets have different classes.
    """
    with naming_key("data.train.root"):
        train = ImageFolder(experiment.data.train.root)
    with naming_key("data.val.root"):
        val = ImageFolder(experiment.data.val.root)
    if train.class_names != val.class_names:
        differing = sorted(set(train.class_names) ^ set(val.class_names))
        raise ConfigError(
            f"data.train has {len(train.class_names)} classes, data.val {len(val.class_names)}; {len(differing)} are "
            f"in one of them only ({', '.join(differing[:5])}); give both a folder for each class"
        )
    return train, val


def build_image_transforms(experiment: ClassificationExperiment) -> tuple[CropTransform, CentralTransform]:
    """Return the transforms of the training images and of the validation images."""
    data = experiment.data
    colors = color_jitter(data.photometric)
    train = CropTransform(data.crop_size, data.area, data.aspect, data.flip, colors)
    return train, CentralTransform(data.crop_size, data.central)


def build_classifier(
    section: ClassifierSection, class_names: Sequence[str], *, initial_weights: bool = True
) -> Classifier:
    """Build the classifier for the classes of a data set, with the weights that the experiment names.

    Args:
        section: the model and its initial weights.
        class_names: class names of the data set.
        initial_weights: whether to load the named weights; a resumed run loads its state instead.

    Raises:
        WeightsError: a named file is missing, damaged or does not fit; training never falls back to random weights.
    """
    with naming_key(weights_key(section)):
        start = starting_options(section, initial_weights)
        model = create_classifier(section.name, class_names=class_names, **start)
    set_norms(model, section)
    return model


def build_job(experiment: ClassificationExperiment, processes: Processes, *, initial_weights: bool) -> Job:
    """Open the data and build the model of an experiment; see :func:`segmnv2.tasks.job.build_job`."""
    train, val = build_image_folders(experiment)
    chosen = pick_samples(val, experiment.validation.limit)
    processes.check_validation(len(chosen))
    model = build_classifier(experiment.model, train.class_names, initial_weights=initial_weights)
    transform, val_transform = build_image_transforms(experiment)
    data = experiment.data
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
        f"{describe_model(experiment.model)} as a classifier, {model.num_classes} classes, "
        f"{count_parameters(model):,} parameters",
        describe_images(train, chosen, experiment),
        f"crops of {data.crop_size}x{data.crop_size}",
        len(train),
        numbered(train.class_names),
        {"train": train, "val": val},
    )
