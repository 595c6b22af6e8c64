"""Jobs: a task with its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

import lightning.pytorch as pl
import torch

from segmnv2.config.network_section import FreezableSection, NetworkSection
from segmnv2.config.reading import AnyExperiment
from segmnv2.config.training_sections import PhotometricSection
from segmnv2.data.loader import BatchLoader, Indexed, T, stack_samples, training_loader, validation_loader
from segmnv2.data.transforms import ColorJitter, TrainTransform
from segmnv2.errors import counted
from segmnv2.hub.resolve import resolve_weights
from segmnv2.models.zoo import without_pretrained
from segmnv2.nn.network import freeze_batch_norm
from segmnv2.tasks.processes import Processes
from segmnv2.tasks.task import Task

if TYPE_CHECKING:
    from segmnv2.config.classification_schema import ClassifierSection


class RunData(pl.LightningDataModule, Generic[T]):
    """Data module with training batches from the trainer's step on, and validation samples in order.

    Args:
        train: the training set.
        val: the validation set.
        transform: augmentation of training samples.
        experiment: batch size, seed and number of workers.
        stack: function that makes a batch of samples; by default that of segmentation.
        val_transform: transform of validation samples; by default none, because segmentation prepares them itself.
        val_batch_size: number of validation samples per batch and rank.
        val_stays: whether validation batches stay on the CPU, where segmentation resizes and counts them.
    """

    def __init__(
        self,
        train: Indexed[T],
        val: Indexed[T],
        transform: Callable[[T, int], T],
        experiment: AnyExperiment,
        *,
        stack: Callable[[Any], Any] = stack_samples,
        val_transform: Callable[[T, int], T] | None = None,
        val_batch_size: int = 1,
        val_stays: bool = False,
    ) -> None:
        super().__init__()
        self.train = train
        self.val = val
        self.transform = transform
        self.experiment = experiment
        self.stack = stack
        self.val_transform = val_transform
        self.val_batch_size = val_batch_size
        self.val_stays = val_stays

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch to the device, unless it stays on the CPU."""
        assert self.trainer is not None
        if self.val_stays and self.trainer.evaluating:
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def train_dataloader(self) -> BatchLoader:
        """Return the endless loader, which starts at the trainer's step."""
        assert self.trainer is not None
        data = self.experiment.data
        if isinstance(self.transform, TrainTransform):  # a resumed run has restored its normalization
            model: Any = self.trainer.lightning_module.model
            self.transform.pad_with(model.mean_pixel)
        processes = Processes(self.trainer.world_size, self.trainer.global_rank)
        return training_loader(
            self.train,
            self.transform,
            batch_size=processes.share(data.batch_size, self.experiment.optimizer.accumulate),
            seed=self.experiment.seed,
            start=self.trainer.global_step * data.batch_size,
            num_workers=data.num_workers,
            num_replicas=processes.count,
            rank=processes.rank,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
            stack=self.stack,
        )

    def val_dataloader(self) -> BatchLoader:
        """Return the loader of this rank's validation samples."""
        assert self.trainer is not None
        return validation_loader(
            self.val,
            transform=self.val_transform,
            batch_size=self.val_batch_size,
            num_workers=self.experiment.data.num_workers,
            num_replicas=self.trainer.world_size,
            rank=self.trainer.global_rank,
            stack=self.stack,
        )


@dataclass(frozen=True)
class Job:
    """A task with its data.

    Attributes:
        task: the task.
        data: the loaders.
        model_text: description of the model.
        data_text: description of the data sets.
        crops_text: description of a step's images, such as their crops.
        images: number of training images.
        classes: class id -> name, and the ignore index.
        datasets: the complete data sets ``train`` and ``val``.
        callbacks: callbacks besides those of every run.
    """

    task: Task
    data: RunData[Any]
    model_text: str
    data_text: str
    crops_text: str
    images: int
    classes: Mapping[str, Any]
    datasets: Mapping[str, Any]
    callbacks: Sequence[pl.Callback] = ()


def build_job(experiment: AnyExperiment, processes: Processes, *, initial_weights: bool) -> Job:
    """Open the data and build the model of an experiment.

    Args:
        experiment: an experiment of any task.
        processes: the processes of the run; each needs at least one image to validate.
        initial_weights: whether to load the named weights; a resumed run loads its state instead.

    Raises:
        ConfigError: the data sets have different classes, or there are too few images to validate.
        DatasetError: a data set is missing or faulty.
        WeightsError: named weights are missing or do not fit.
    """
    task = import_module(f"segmnv2.tasks.{experiment.task}")  # the other tasks are not imported
    job: Job = task.build_job(experiment, processes, initial_weights=initial_weights)
    return job


def starting_options(section: NetworkSection, initial_weights: bool) -> dict[str, Any]:
    """Return the arguments of a model besides its name and classes; published weights are downloaded.

    Args:
        section: the model and its initial weights.
        initial_weights: whether to include the named weights.

    Raises:
        WeightsError: named weights do not exist, or are not in the cache and cannot be downloaded.
    """
    options = section.backbone_options
    return {
        "weights": _resolve(section.weights, initial_weights),
        "keep_logits": section.keep_logits,
        "backbone_weights": _resolve(section.backbone_weights, initial_weights),
        **(options if initial_weights else without_pretrained(options)),
    }


def _resolve(weights: Path | None, needed: bool) -> Path | None:
    return resolve_weights(weights) if weights is not None and needed else None


def set_norms(model: Any, section: FreezableSection | ClassifierSection) -> None:
    """Set the momentum of a model's batch norms, and freeze them, as an experiment requests."""
    if section.norm_momentum is not None:
        model.set_norm_momentum(section.norm_momentum)
    if section.norms == "frozen":
        freeze_batch_norm(model, backbone_only=section.weights is None)


def weights_key(section: NetworkSection) -> str:
    """Return the key under which an experiment names the initial weights."""
    return "model.weights" if section.weights else "model.backbone_weights"


def color_jitter(section: PhotometricSection | None) -> ColorJitter | None:
    """Return the color jitter that an experiment requests, if any."""
    return ColorJitter(**section.model_dump()) if section else None


def describe_model(section: NetworkSection) -> str:
    """Return a text with the name and the options of a model."""
    return section.name + "".join(f", {key} {value}" for key, value in section.backbone_options.items())


def describe_images(train: Sized, val: Sized, experiment: AnyExperiment) -> str:
    """Return a text with the kinds and numbers of the images."""
    data = experiment.data
    return f"{counted(len(train), 'image')} ({data.train.kind}) to train, {len(val)} ({data.val.kind}) to validate"


def numbered(names: Sequence[str]) -> dict[str, str]:
    """Return a mapping of class ids, as texts, to names."""
    return {str(number): name for number, name in enumerate(names)}
