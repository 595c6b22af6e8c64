"""Training of segmentation models: task, data and job."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from segmnv2.config.segmentation_schema import Experiment, ModelSection
from segmnv2.data.loader import Batch, Indexed
from segmnv2.data.sample import Sample, SegmentationDataset
from segmnv2.data.transforms import TrainTransform
from segmnv2.datasets.dataset_kinds import open_dataset
from segmnv2.errors import ConfigError, DatasetError, SegmnError, counted, naming_key
from segmnv2.evaluation.result import pick_samples
from segmnv2.inference.scores import predict_labels
from segmnv2.labels import LabelSet
from segmnv2.metrics.confusion import ConfusionMatrix, iou_per_class, mean_iou, pixel_accuracy
from segmnv2.models.cost import count_parameters
from segmnv2.models.model_file import save_model
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model
from segmnv2.tasks.image_log import Pictures
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
from segmnv2.tasks.loss import SegmentationLoss
from segmnv2.tasks.optimizer import build_optimizer, build_schedule
from segmnv2.tasks.processes import Processes
from segmnv2.tasks.task import Task, Timing


def segmentation_metrics(confusion: Int64[Tensor, "k k"], labels: LabelSet) -> dict[str, float]:
    """Return mean IoU, pixel accuracy and the IoU of each class that occurs, in percent.

    Args:
        confusion: numbers of pixels, [truth, prediction].
        labels: names of the classes.
    """
    values = (100 * iou_per_class(confusion)).tolist()
    named = {f"val/iou/{name}": v for name, v in zip(labels.names, values, strict=True) if not math.isnan(v)}
    return {"val/miou": 100 * mean_iou(confusion), "val/pixel_accuracy": 100 * pixel_accuracy(confusion), **named}


class SegmentationTask(Task):
    """A segmentation model in training; validations follow the protocol of the evaluation.

    Args:
        model: the model with its initial weights.
        experiment: loss, optimizer, steps, seed and validation.

    Attributes:
        model: the model.
        loss: the loss that is minimized.

    Raises:
        ConfigError: the loss names a class that does not exist.
    """

    score_name = "mIOU"
    score_key = "miou"
    model: Segmenter
    experiment: Experiment

    def __init__(self, model: Segmenter, experiment: Experiment) -> None:
        super().__init__(model, experiment, Timing(experiment.steps, experiment.validation.every))
        self.loss = SegmentationLoss(experiment.loss, model.labels)
        self._confusion = ConfusionMatrix(model.num_classes, model.labels.ignore_index)
        self._training_stride = model.output_stride
        self._raw_logits = torch.compile(model.raw_logits) if experiment.compile else model.raw_logits

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the metrics of a validation."""
        return ("val/miou", "val/pixel_accuracy", *(f"val/iou/{name}" for name in self.model.labels.names))

    def describe_validation(self, metrics: Mapping[str, float]) -> str:
        """Return a short text with the metrics of a validation."""
        occurring = sum(key.startswith("val/iou/") for key in metrics)
        over = f" over {occurring} of {self.model.num_classes} classes" if occurring < self.model.num_classes else ""
        return f"mIOU {metrics['val/miou']:.2f} %{over}, pixel accuracy {metrics['val/pixel_accuracy']:.2f} %"

    def save_network(self, path: Path, provenance: Mapping[str, Any]) -> Path:
        """Write the model to a file."""
        return save_model(path, self.model, provenance)

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule, which advances after each step."""
        optimizer = build_optimizer(self.model, self.experiment.optimizer)
        schedule = build_schedule(optimizer, self.experiment.optimizer, self.timing.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Batch, batch_idx: int) -> Float[Tensor, ""]:
        """Return the loss of a batch, and check it with :meth:`check_finite`."""
        raw = self._raw_logits(batch["pixels"])
        loss: Tensor = self.loss(raw, batch["mask"], self.model.logits_stride)
        self.check_finite(loss, batch, "If their masks are right")
        return loss

    def on_validation_epoch_start(self) -> None:
        """Reset the counts and set the output stride of validations."""
        self._confusion.reset()
        self._training_stride = self.model.output_stride
        self.model.set_output_stride(self.experiment.validation.output_stride or self._training_stride)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Predict the ``labels`` of one image as the evaluation does, in full precision, and count its pixels."""
        assert len(batch["name"]) == 1
        image, mask = batch["pixels"][0].permute(1, 2, 0).numpy(), batch["mask"][0]
        with self.validating():
            labels = predict_labels(self.model, image, size=self.experiment.validation.size)
        self._confusion.update(mask, labels)
        return {"labels": labels}

    def on_validation_epoch_end(self) -> None:
        """Sum the counts over all ranks and log the metrics."""
        self.model.set_output_stride(self._training_stride)
        if self.trainer.sanity_checking:
            return
        confusion = self.sum_over_ranks(self._confusion.counts)
        self.finish_validation(segmentation_metrics(confusion, self.model.labels))


def build_datasets(experiment: Experiment) -> tuple[SegmentationDataset, SegmentationDataset]:
    """Open the training set and the validation set.

    Raises:
        DatasetError: a data set is missing or incomplete.
        ConfigError: the data sets have different classes.
    """
    train = open_dataset(experiment.data.train, "data.train")
    val = open_dataset(experiment.data.val, "data.val")
    if train.labels != val.labels:
        differing = train.labels.differences(val.labels, "data.val", "data.train")
        raise ConfigError(f"the labels of data.train and data.val differ: {differing}; validate on the trained classes")
    return train, val


def build_transform(experiment: Experiment, labels: LabelSet) -> TrainTransform:
    """Return the augmentation of the training images."""
    data = experiment.data
    colors = color_jitter(data.photometric)
    return TrainTransform(data.crop_size, data.scales, data.flip, labels.ignore_index, colors)


def build_model(section: ModelSection, labels: LabelSet, *, initial_weights: bool = True) -> Segmenter:
    """Build the model for the classes of a data set, with the weights that the experiment names.

    Args:
        section: the model and its initial weights.
        labels: labels of the data set.
        initial_weights: whether to load the named weights; a resumed run loads its state instead.

    Raises:
        WeightsError: a named file is missing, damaged or does not fit; training never falls back to random weights.
    """
    with naming_key(weights_key(section)):
        start = starting_options(section, initial_weights)
        model = create_model(
            section.name, output_stride=section.output_stride, labels=labels, head_options=section.head, **start
        )
    set_norms(model, section)
    return model


def build_job(experiment: Experiment, processes: Processes, *, initial_weights: bool) -> Job:
    """Open the data and build the model of an experiment; see :func:`segmnv2.tasks.job.build_job`."""
    train, val = build_datasets(experiment)
    chosen = pick_samples(val, experiment.validation.limit)
    processes.check_validation(len(chosen))
    _check_labeled(chosen, val)
    model = build_model(experiment.model, train.labels, initial_weights=initial_weights)
    section, data = experiment.model, experiment.data
    return Job(
        SegmentationTask(model, experiment),
        RunData(train, chosen, build_transform(experiment, train.labels), experiment, val_stays=True),
        f"{describe_model(section)}, output stride {section.output_stride}, {model.num_classes} classes, "
        f"{count_parameters(model):,} parameters",
        describe_images(train, chosen, experiment),
        f"crops of {data.crop_size}x{data.crop_size}",
        len(train),
        {**numbered(train.labels.names), **_describe_ids(train.labels)},
        {"train": train, "val": val},
        [Pictures(experiment.log.pictures)],
    )


def _check_labeled(chosen: Indexed[Sample], val: SegmentationDataset) -> None:
    """Refuse validation masks whose pixels are all ignored; reading stops at the first mask with a class."""
    ignored = val.labels.ignore_index
    try:
        if any((chosen[index].mask != ignored).any() for index in range(len(chosen))):
            return
    except SegmnError:  # the validation reports files that cannot be read
        return
    place = getattr(val, "folder", "data.val")
    raise DatasetError(
        f"{place}: all pixels of {counted(len(chosen), 'image')} of data.val are ignored ({ignored}), so nothing "
        "can be measured; give other masks or another split"
    )


def _describe_ids(labels: LabelSet) -> dict[str, Any]:
    """Return the ignore index and the hexadecimal colors, which define the ids of masks together with the names."""
    colors = [*labels.palette, *([labels.void_color] if labels.void_color else [])]
    return {"ignore_index": labels.ignore_index, "palette": " ".join(bytes(color).hex() for color in colors)}
