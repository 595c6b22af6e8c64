"""Batches for training and validation, read by worker processes, with errors that stay readable.

PyTorch hands an error of a worker on as an error whose message is a traceback. Here a ``SegmnError`` travels to the
main process as an item, through :func:`collate`, and :class:`BatchLoader` raises it there: same class, same message.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypedDict, TypeVar

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segmnv2.data.sample import Sample
from segmnv2.data.sampler import StepSampler, StridedSampler, augmentation_seed
from segmnv2.errors import DatasetError, SegmnError

WORKER_PATIENCE = 30
"""Seconds that a worker lives on after SIGTERM."""


class Batch(TypedDict):
    """Samples of one size.

    ``pixels``: RGB 0..255, channels last in memory, as convolutions like it. ``mask``: class ids or the ignore index;
    losses need it as int64, which is left to the device because uint8 travels eight times lighter.
    """

    pixels: UInt8[Tensor, "b 3 h w"]
    mask: UInt8[Tensor, "b h w"]
    name: list[str]


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Indexed(Protocol[T_co]):
    """Samples by index, of any kind; what cannot be read raises a ``SegmnError``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> T_co: ...


class TrainingSet(Dataset["T | SegmnError"], Generic[T]):
    """Augmented samples, addressed by (position, index) as ``StepSampler`` yields them.

    Augmentation is drawn from (seed, position) alone: neither the number of workers nor a restart changes it.

    Args:
        dataset: the data set.
        transform: called as ``transform(sample, seed)``.
        seed: at least 0.
    """

    def __init__(self, dataset: Indexed[T], transform: Callable[[T, int], T], seed: int) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> T | SegmnError:
        """Return the augmented sample, or the error that reading it raised."""
        position, index = key
        try:
            return self.transform(self.dataset[index], augmentation_seed(self.seed, position))
        except SegmnError as error:
            return error


class ValidationSet(Dataset["T | SegmnError"], Generic[T]):
    """Samples by index.

    Args:
        dataset: the data set.
        transform: called as ``transform(sample, 0)``; by default samples stay unchanged.
    """

    def __init__(self, dataset: Indexed[T], transform: Callable[[T, int], T] | None = None) -> None:
        self.dataset = dataset
        self.transform = transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> T | SegmnError:
        """Return the sample, or the error that reading it raised."""
        try:
            sample = self.dataset[index]
        except SegmnError as error:
            return error
        return self.transform(sample, 0) if self.transform else sample


class BatchLoader(DataLoader[Any]):
    """A ``DataLoader`` that yields batches and raises in the main process what a worker could not read."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield batches: :class:`Batch` of segmentation, or what else its samples are stacked to.

        Raises:
            SegmnError: as the data set raised it.
        """
        for batch in super().__iter__():
            if isinstance(batch, SegmnError):
                # Ends the workers now. Whoever keeps the error keeps its frames and this loader, and would leave them
                # to the garbage collector, which waits 5 seconds for each.
                self._iterator = None
                raise batch
            yield batch


def stack_samples(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size.

    Raises:
        DatasetError: they are of different sizes.
    """
    sizes = {sample.name: sample.mask.shape for sample in samples}
    if len(set(sizes.values())) > 1:
        raise DatasetError(f"batch: images of different sizes {sizes}; pad or crop them to one, or use batch size 1")
    pixels = torch.from_numpy(np.stack([sample.image for sample in samples]))
    return {
        "pixels": pixels.permute(0, 3, 1, 2),
        "mask": torch.from_numpy(np.stack([sample.mask for sample in samples])),
        "name": [sample.name for sample in samples],
    }


def collate(items: Sequence[Any], stack: Callable[[Any], Any] = stack_samples) -> Any:
    """Stack samples to a batch, or return the first error among them, or the one that stacking raises."""
    errors = [item for item in items if isinstance(item, SegmnError)]
    if errors:
        return errors[0]
    try:
        return stack(items)
    except SegmnError as error:
        return error


def training_loader(
    dataset: Indexed[T],
    transform: Callable[[T, int], T],
    *,
    batch_size: int,
    seed: int,
    start: int = 0,
    num_workers: int = 0,
    num_replicas: int = 1,
    rank: int = 0,
    pin_memory: bool = False,
    stack: Callable[[Any], Any] = stack_samples,
) -> BatchLoader:
    """Return an endless loader of full training batches, bit-identical for any number of workers and after a resume.

    Args:
        dataset: the training set.
        transform: augmentation, as ``TrainTransform``.
        batch_size: samples a batch, on this rank.
        seed: seed of the order and of the augmentation.
        start: global position to begin at: steps done, times ``batch_size * num_replicas``.
        num_workers: reading processes; 0 reads in the calling one.
        num_replicas: number of ranks.
        rank: this rank.
        pin_memory: for copying to a GPU.
        stack: makes a batch of augmented samples; of segmentation's by default.
    """
    return BatchLoader(
        TrainingSet(dataset, transform, seed),
        batch_size=batch_size,
        sampler=StepSampler(len(dataset), seed, start, num_replicas, rank),
        **_reading(stack, num_workers, pin_memory),
    )


def validation_loader(
    dataset: Indexed[T],
    *,
    transform: Callable[[T, int], T] | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    num_replicas: int = 1,
    rank: int = 0,
    stack: Callable[[Any], Any] = stack_samples,
) -> BatchLoader:
    """Return a loader of each sample of this rank once, in order; by default one at a time, unchanged.

    Args:
        dataset: the validation set.
        transform: called as ``transform(sample, 0)``; by default samples stay unchanged.
        batch_size: samples a batch, on this rank; the last one may hold fewer.
        num_workers: reading processes; 0 reads in the calling one.
        num_replicas: number of ranks.
        rank: this rank; ranks may differ by one sample.
        stack: makes a batch of samples; of segmentation's by default.
    """
    return BatchLoader(
        ValidationSet(dataset, transform),
        batch_size=batch_size,
        sampler=StridedSampler(len(dataset), num_replicas, rank),
        **_reading(stack, num_workers, pin_memory=False),
    )


def _reading(stack: Callable[[Any], Any], num_workers: int, pin_memory: bool) -> dict[str, Any]:
    return {
        "collate_fn": partial(collate, stack=stack),
        "num_workers": num_workers,
        "pin_memory": pin_memory,
        "persistent_workers": num_workers > 0,
        "worker_init_fn": _prepare_worker,
        # Its own, because a loader otherwise draws a seed for its workers from the global generator, and dropout
        # after a resume would then differ.
        "generator": torch.Generator().manual_seed(0),
    }


def _prepare_worker(_worker: int) -> None:
    """Keep OpenCV from starting a thread per core in every worker; PyTorch sees to its own.

    A signal to the whole group of processes is answered by the one that reads from the workers: it may need their next
    batches to end its step, and ends them itself. SIGTERM is therefore obeyed late.
    """
    cv2.setNumThreads(0)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(WORKER_PATIENCE))
