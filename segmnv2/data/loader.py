"""Batches for training and validation, read by worker processes, with readable errors.

PyTorch replaces an error of a worker by an error whose message is a traceback. Here, a worker returns a ``SegmnError``
as an item, :func:`collate` passes it on, and :class:`BatchLoader` raises it unchanged in the main process.
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
"""Seconds until a worker exits after SIGTERM."""


class Batch(TypedDict):
    """Samples of one size.

    ``pixels``: RGB 0..255, channels last in memory, the fast order for convolutions. ``mask``: class ids or the
    ignore index. Losses need int64; the device converts the mask, because uint8 takes an eighth of the transfer.
    """

    pixels: UInt8[Tensor, "b 3 h w"]
    mask: UInt8[Tensor, "b h w"]
    name: list[str]


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Indexed(Protocol[T_co]):
    """Samples by index, of any kind; an unreadable sample raises a ``SegmnError``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> T_co: ...


class TrainingSet(Dataset["T | SegmnError"], Generic[T]):
    """Augmented samples, addressed by (position, index) as ``StepSampler`` yields them.

    Augmentation depends on (seed, position) only: neither the number of workers nor a restart changes it.

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
    """A ``DataLoader`` of batches that raises the errors of workers in the main process."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield batches: :class:`Batch` for segmentation, otherwise the result of ``stack``.

        Raises:
            SegmnError: a sample cannot be read, or the samples of a batch cannot be stacked.
        """
        for batch in super().__iter__():
            if isinstance(batch, SegmnError):
                # Stop the workers now. The error's traceback refers to this loader, so the garbage collector would stop
                # them late, and would wait 5 seconds for each.
                self._iterator = None
                raise batch
            yield batch


def stack_samples(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size.

    Raises:
        DatasetError: their sizes differ.
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
    """Return a batch of samples, or the first error among them, or the error of stacking."""
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
    """Return an endless loader of full training batches; the number of workers and resuming do not change them.

    Args:
        dataset: the training set.
        transform: augmentation, such as ``TrainTransform``.
        batch_size: samples per batch on this rank.
        seed: seed of the order and of the augmentation.
        start: first global position: finished steps times ``batch_size * num_replicas``.
        num_workers: worker processes; 0 reads in the calling process.
        num_replicas: number of ranks.
        rank: this rank.
        pin_memory: whether to pin memory for copies to a GPU.
        stack: makes a batch of augmented samples.
    """
    return BatchLoader(
        TrainingSet(dataset, transform, seed),
        batch_size=batch_size,
        sampler=StepSampler(len(dataset), seed, start, num_replicas, rank),
        **_loader_options(stack, num_workers, pin_memory),
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
    """Return a loader that yields each sample of this rank once, in order; by default one by one and unchanged.

    Args:
        dataset: the validation set.
        transform: called as ``transform(sample, 0)``; by default samples stay unchanged.
        batch_size: samples per batch on this rank; the last batch may hold fewer.
        num_workers: worker processes; 0 reads in the calling process.
        num_replicas: number of ranks.
        rank: this rank; ranks may differ by one sample.
        stack: makes a batch of samples.
    """
    return BatchLoader(
        ValidationSet(dataset, transform),
        batch_size=batch_size,
        sampler=StridedSampler(len(dataset), num_replicas, rank),
        **_loader_options(stack, num_workers, pin_memory=False),
    )


def _loader_options(stack: Callable[[Any], Any], num_workers: int, pin_memory: bool) -> dict[str, Any]:
    return {
        "collate_fn": partial(collate, stack=stack),
        "num_workers": num_workers,
        "pin_memory": pin_memory,
        "persistent_workers": num_workers > 0,
        "worker_init_fn": _prepare_worker,
        # Without its own generator, a loader draws a seed from the global one, and dropout after a resume differs.
        "generator": torch.Generator().manual_seed(0),
    }


def _prepare_worker(_worker: int) -> None:
    """Limit OpenCV to one thread, as PyTorch limits itself, and delay the effect of signals.

    A signal to the process group also reaches the workers. But the main process may need their next batches to finish
    its step, and it stops them itself. So workers ignore SIGHUP and exit late after SIGTERM.
    """
    cv2.setNumThreads(0)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(WORKER_PATIENCE))
