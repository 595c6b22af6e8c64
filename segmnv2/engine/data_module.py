"""The loaders of a run, as Lightning asks for them."""

from __future__ import annotations

import lightning.pytorch as pl

from segmnv2.config import Experiment
from segmnv2.data.loader import BatchLoader, training_loader, validation_loader
from segmnv2.data.sample import Sample, SegmentationDataset
from segmnv2.data.transforms import TrainTransform
from segmnv2.engine.processes import Processes
from segmnv2.labels import LabelSet


class SegmentationData(pl.LightningDataModule):
    """Training batches counted from the step that the trainer is at, and whole validation images one by one.

    Args:
        train: what to train on.
        val: what to validate on.
        transform: the augmentation.
        experiment: batch size, seed and number of workers.
    """

    def __init__(
        self,
        train: SegmentationDataset,
        val: SegmentationDataset,
        transform: TrainTransform,
        experiment: Experiment,
    ) -> None:
        super().__init__()
        self.train = train
        self.val = val
        self.transform = transform
        self.experiment = experiment

    def train_dataloader(self) -> BatchLoader:
        """Return the endless loader, at the position that belongs to the trainer's step."""
        assert self.trainer is not None
        data = self.experiment.data
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
        )

    def val_dataloader(self) -> BatchLoader:
        """Return the loader of this rank's images, as they are: the prediction lays them out itself."""
        assert self.trainer is not None
        return validation_loader(
            FirstSamples(self.val, self.experiment.validation.limit),
            num_workers=self.experiment.data.num_workers,
            num_replicas=self.trainer.world_size,
            rank=self.trainer.global_rank,
        )

    def _on_gpu(self) -> bool:
        assert self.trainer is not None
        return self.trainer.strategy.root_device.type == "cuda"


class FirstSamples:
    """The first samples of a data set.

    Args:
        dataset: whose.
        limit: how many at most; ``None`` for all.
    """

    def __init__(self, dataset: SegmentationDataset, limit: int | None) -> None:
        self.dataset = dataset
        self.length = len(dataset) if limit is None else min(limit, len(dataset))

    @property
    def labels(self) -> LabelSet:
        """The classes."""
        return self.dataset.labels

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int, /) -> Sample:
        """Return a sample."""
        return self.dataset[index]
