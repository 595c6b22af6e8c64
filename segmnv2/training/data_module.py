"""The loaders of a run, as Lightning requests them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic

import lightning.pytorch as pl

from segmnv2.config import AnyExperiment
from segmnv2.data.loader import BatchLoader, Indexed, T, stack_samples, training_loader, validation_loader
from segmnv2.data.transforms import TrainTransform
from segmnv2.training.processes import Processes


class RunData(pl.LightningDataModule, Generic[T]):
    """Training batches counted from the step that the trainer is at, and validation samples in order.

    Args:
        train: what to train on.
        val: what to validate on.
        transform: the augmentation.
        experiment: batch size, seed, number of workers, and how many samples to validate on.
        stack: makes a batch of augmented samples; of segmentation's by default.
        val_transform: of validation samples; by default they stay unchanged: segmentation lays them out itself.
        val_batch_size: validation samples at once, on each rank.
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
    ) -> None:
        super().__init__()
        self.train = train
        self.val = val
        self.transform = transform
        self.experiment = experiment
        self.stack = stack
        self.val_transform = val_transform
        self.val_batch_size = val_batch_size

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
