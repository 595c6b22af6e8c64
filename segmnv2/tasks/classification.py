"""Classification: what happens in a step and in a validation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    describe_network,
    numbered,
    settle_norms,
    starting_options,
    weights_key,
)
from segmnv2.tasks.optimizer import divide_parameters
from segmnv2.tasks.processes import Processes
from segmnv2.tasks.task import Task, epoch_timing


@dataclass(frozen=True)
class ClassificationValidation:
    """One validation.

    Attributes:
        step: optimizer steps done.
        accuracy: counted over all ranks.
    """

    step: int
    accuracy: TopAccuracy

    @property
    def score(self) -> float:
        """Share of the images whose first class is right, in percent."""
        return self.accuracy.top1


def staircase_factor(step: int, *, rate_factor: float, rate_steps: float, warmup_steps: float) -> float:
    """Return what the learning rate of step 0, 1, ... is multiplied by: a staircase, times a rise to 1 at first.

    Args:
        step: optimizer steps done.
        rate_factor: height of each stair, as a share of the one before.
        rate_steps: length of each stair.
        warmup_steps: the first of them has the factor 1 / warmup_steps, the last one 1; 0 leaves the staircase alone.

    Source: ``tf.train.exponential_decay(staircase=True)`` in slim/train_image_classifier.py.
    """
    rise = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return rise * rate_factor ** math.floor(step / rate_steps)


def build_rmsprop(model: Classifier, section: RmspropSection) -> torch.optim.Optimizer:
    """Return the optimizer; decayed are the kernels of convolutions that are not depthwise, and the last layer's.

    Source: slim/train_image_classifier.py (decay 0.9, momentum 0.9, epsilon 1), slim/nets/mobilenet/mobilenet.py
    (``training_scope``: no decay on depthwise kernels).
    """
    from timm.optim.rmsprop_tf import RMSpropTF  # a third of a second, which segmentation need not wait for

    kernels, others = divide_parameters(model)
    groups = [
        {"params": kernels, "weight_decay": section.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return RMSpropTF(groups, section.lr, section.alpha, section.epsilon, momentum=section.momentum)


class ClassificationTask(Task):
    """A classifier in training: smoothed cross-entropy, RMSProp, and top-1 and top-5 accuracy.

    Args:
        model: the network, its weights in place.
        experiment: loss, optimizer, epochs, seed and validation.
        images: number of training images, which an epoch is.

    Attributes:
        model: the network.
    """

    score_name = "top-1"
    score_key = "top1"
    model: Classifier
    experiment: ClassificationExperiment

    def __init__(self, model: Classifier, experiment: ClassificationExperiment, images: int) -> None:
        super().__init__(model, experiment, epoch_timing(experiment, images))
        self.images = images
        self._accuracy = TopAccuracy()
        # A function: a second module of the same weights would be in the state as well.
        self._logits = torch.compile(model.forward) if experiment.compile else model.forward

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of a validation's measures."""
        return ("val/top1", "val/top5", "val/loss")

    def describe_validation(self, metrics: Mapping[str, float]) -> str:
        """Return a validation's measures in a few words."""
        return f"top-1 {metrics['val/top1']:.2f} %, top-5 {metrics['val/top5']:.2f} %"

    def save_network(self, path: Path, provenance: Mapping[str, Any]) -> Path:
        """Write the network as a classifier's file.

        Raises:
            WeightsError: it cannot be written.
        """
        return save_classifier(path, self.model, provenance)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule, advanced once a step."""
        section, per_epoch = self.experiment.optimizer, self.images / self.experiment.data.batch_size
        optimizer = build_rmsprop(self.model, section)

        def factor(step: int) -> float:
            return staircase_factor(
                step,
                rate_factor=section.rate_factor,
                rate_steps=section.rate_epochs * per_epoch,
                warmup_steps=section.warmup_epochs * per_epoch,
            )

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Any, batch_idx: int) -> Float[Tensor, ""]:
        """Return the loss of a batch.

        Raises:
            SegmnError: it is not finite; the files of the batch are named.
        """
        smoothing = self.experiment.loss.label_smoothing
        loss = F.cross_entropy(self._logits(batch["pixels"]), batch["label"], label_smoothing=smoothing)
        self.check_finite(loss, batch, "If they are in order")
        return loss

    def on_validation_epoch_start(self) -> None:
        """Begin to count."""
        self._accuracy = TopAccuracy()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Classify a batch in full precision, and count."""
        with self.validating():
            logits = self.model(batch["pixels"])
        self._accuracy.update(logits.cpu(), batch["label"].cpu())

    def on_validation_epoch_end(self) -> None:
        """Sum over the ranks, and log."""
        if self.trainer.sanity_checking:
            return
        total = TopAccuracy.from_counts(self.sum_over_ranks(self._accuracy.to_counts()))
        metrics = {"val/top1": total.top1, "val/top5": total.top5, "val/loss": total.loss}
        self.finish_validation(ClassificationValidation(self.global_step, total), metrics)


def build_image_folders(experiment: ClassificationExperiment) -> tuple[ImageFolder, ImageFolder]:
    """Open the training set and the validation set of a classification.

    Raises:
        DatasetError: one is not there or not complete.
        ConfigError: they have different classes.
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
    """Return what is done to the training images and to the validation images of a classification."""
    data = experiment.data
    colors = color_jitter(data.photometric)
    train = CropTransform(data.crop_size, data.area, data.aspect, data.flip, colors)
    return train, CentralTransform(data.crop_size, data.central)


def build_classifier(
    section: ClassifierSection, class_names: Sequence[str], *, initial_weights: bool = True
) -> Classifier:
    """Build the classifier for the classes of a data set, with the weights that the experiment names.

    Args:
        section: the network and its start.
        class_names: class names of the data set.
        initial_weights: ``False`` leaves the named weights out, for a run whose own checkpoint follows.

    Raises:
        WeightsError: a named file is missing, damaged or does not fit; nothing ever starts from scratch instead.
    """
    with naming_key(weights_key(section)):
        start = starting_options(section, initial_weights)
        model = create_classifier(section.name, class_names=class_names, **start)
    settle_norms(model, section)
    return model


def build_job(experiment: ClassificationExperiment, processes: Processes, *, initial_weights: bool) -> Job:
    """Open all that an experiment names; see :func:`segmnv2.tasks.job.build_job`."""
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
        f"{describe_network(experiment.model)} as a classifier, {model.num_classes} classes, "
        f"{count_parameters(model):,} parameters",
        describe_images(train, chosen, experiment),
        f"crops of {data.crop_size}x{data.crop_size}",
        len(train),
        numbered(train.class_names),
        {"train": train, "val": val},
    )
