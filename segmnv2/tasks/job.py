"""Jobs: a task with its data, as a run needs them."""

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
    """Training batches counted from the step that the trainer is at, and validation samples in order.

    Args:
        train: the training set.
        val: the validation set.
        transform: the augmentation.
        experiment: batch size, seed, number of workers, and how many samples to validate on.
        stack: makes a batch of augmented samples; of segmentation's by default.
        val_transform: transform of validation samples; none by default, because segmentation prepares them itself.
        val_batch_size: validation samples at once, on each rank.
        val_stays: whether they stay on the CPU, where segmentation lays them out and counts.
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
        """Move a batch, unless it is one that stays on the CPU."""
        assert self.trainer is not None
        if self.val_stays and self.trainer.evaluating:
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def train_dataloader(self) -> BatchLoader:
        """Return the endless loader, at the position that belongs to the trainer's step."""
        assert self.trainer is not None
        data = self.experiment.data
        if isinstance(self.transform, TrainTransform):  # a resumed run's network has its normalization by now
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
            pin_memory=self._on_gpu(),
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

    def _on_gpu(self) -> bool:
        assert self.trainer is not None
        return self.trainer.strategy.root_device.type == "cuda"


@dataclass(frozen=True)
class Job:
    """A task with its data.

    Attributes:
        task: the task.
        data: the loaders.
        network: the network in words.
        shown: kinds and numbers of the images, in words.
        seen: description of a step's images, such as their crops.
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


def build_job(experiment: AnyExperiment, processes: Processes, *, initial_weights: bool) -> Job:
    """Open all that an experiment names.

    Args:
        experiment: an experiment of any task.
        processes: the processes; each needs at least one image to validate.
        initial_weights: ``False`` leaves the named weights out, for a run whose own checkpoint follows.

    Raises:
        ConfigError: data sets that do not belong together, or too few images to validate.
        DatasetError: a data set is missing or faulty.
        WeightsError: named weights are missing or do not fit.
    """
    task = import_module(f"segmnv2.tasks.{experiment.task}")  # no other task is imported
    job: Job = task.build_job(experiment, processes, initial_weights=initial_weights)
    return job


def starting_options(section: NetworkSection, initial_weights: bool) -> dict[str, Any]:
    """Return what a network is built with beside its name and classes, weights of published names fetched.

    Args:
        section: the network and its start.
        initial_weights: ``False`` leaves the named weights out.

    Raises:
        WeightsError: there are no weights of a name, or they can neither be fetched nor are in the cache.
    """
    options = section.backbone_options
    return {
        "weights": _given(section.weights, initial_weights),
        "keep_logits": section.keep_logits,
        "backbone_weights": _given(section.backbone_weights, initial_weights),
        **(options if initial_weights else without_pretrained(options)),
    }


def _given(named: Path | None, wanted: bool) -> Path | None:
    return resolve_weights(named) if named is not None and wanted else None


def settle_norms(model: Any, section: FreezableSection | ClassifierSection) -> None:
    """Give a network's batch norms the momentum that an experiment requests, or freeze them."""
    if section.norm_momentum is not None:
        model.set_norm_momentum(section.norm_momentum)
    if section.norms == "frozen":
        freeze_batch_norm(model, backbone_only=section.weights is None)


def weights_key(section: NetworkSection) -> str:
    """Return the key of an experiment that names the initial weights."""
    return "model.weights" if section.weights else "model.backbone_weights"


def color_jitter(section: PhotometricSection | None) -> ColorJitter | None:
    """Return the changes of color that an experiment requests."""
    return ColorJitter(**section.model_dump()) if section else None


def describe_network(section: NetworkSection) -> str:
    """Return name and options of a network, in words."""
    return section.name + "".join(f", {key} {value}" for key, value in section.backbone_options.items())


def describe_images(train: Sized, val: Sized, experiment: AnyExperiment) -> str:
    """Return kinds and numbers of the images, in words."""
    data = experiment.data
    return f"{counted(len(train), 'image')} ({data.train.kind}) to train, {len(val)} ({data.val.kind}) to validate"


def numbered(names: Sequence[str]) -> dict[str, str]:
    """Return class id -> name."""
    return {str(number): name for number, name in enumerate(names)}
