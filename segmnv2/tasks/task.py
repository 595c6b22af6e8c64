"""Base class of tasks: random numbers, memory layout, averaging and the interface to a run."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import lightning.pytorch as pl
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from segmnv2.config.reading import AnyExperiment
from segmnv2.engines.pytorch import convolutions
from segmnv2.errors import SegmnError

if TYPE_CHECKING:
    from segmnv2.config.classification_schema import ClassificationExperiment
    from segmnv2.config.detection_schema import DetectionExperiment

Part = TypeVar("Part")

DROPOUT_STREAM = 2  # 0 is the order of the samples, 1 their augmentation


@dataclass(frozen=True)
class Timing:
    """Times of events in a run, in optimizer steps.

    Attributes:
        steps: total number of steps.
        validate_every: between two validations.
    """

    steps: int
    validate_every: int


def epoch_timing(experiment: ClassificationExperiment | DetectionExperiment, images: int) -> Timing:
    """Return the steps of an experiment that is given in epochs.

    Args:
        experiment: its epochs and its batch.
        images: number of training images.
    """
    steps = images / experiment.data.batch_size
    return Timing(max(1, round(experiment.epochs * steps)), max(1, round(experiment.validation.every * steps)))


class Validation(Protocol):
    """One validation."""

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        ...

    @property
    def score(self) -> float:
        """Score by which networks are compared, in percent; NaN when nothing was counted."""
        ...


class Task(pl.LightningModule):
    """A network in training.

    Chance in a step (dropout) is drawn from the seed, the step, its part and the rank alone, as the data are, so a
    resumed run draws what the unbroken one would have drawn.

    Args:
        model: the network, its weights in place.
        experiment: optimizer, seed and validation.
        timing: the steps of validations, states and the end.

    Attributes:
        model: the network.
        score_name: name of the score for people.
        score_key: name of the score in logs and files.
        validation: the latest one, if any.
    """

    model: nn.Module
    score_name: ClassVar[str]
    score_key: ClassVar[str]

    def __init__(self, model: nn.Module, experiment: AnyExperiment, timing: Timing) -> None:
        super().__init__()
        self.model = model
        self.experiment: AnyExperiment = experiment
        self.timing = timing
        self.validation: Validation | None = None
        self._unread: list[tuple[int, Tensor, Sequence[str], str]] = []
        if experiment.channels_last:
            model.to(memory_format=torch.channels_last)
        else:
            backbone = model.backbone
            assert isinstance(backbone, nn.Module)
            backbone.register_forward_pre_hook(_contiguous)  # batches come channels last, and convolutions follow them

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Names of a validation's measures."""

    @abstractmethod
    def describe_validation(self, metrics: Mapping[str, float]) -> str:
        """Return a validation's measures in a few words."""

    @abstractmethod
    def save_network(self, path: Path, provenance: Mapping[str, Any]) -> Path:
        """Write the network as a file from which it can be rebuilt.

        Raises:
            WeightsError: it cannot be written.
        """

    def on_train_start(self) -> None:
        """Make sure that all processes start from the same step, at the learning rate of the schedule.

        A state has the rate of its own schedule, which is another one where the run was made longer.

        Raises:
            SegmnError: they do not, as on machines that do not see the same folder.
        """
        first = self.trainer.strategy.broadcast(self.global_step)
        if first != self.global_step:
            raise SegmnError(
                f"process {self.global_rank} resumes from step {self.global_step}, the first one from step {first}; "
                "--out must be a folder that all machines share"
            )
        for config in self.trainer.lr_scheduler_configs:
            schedule = config.scheduler
            assert isinstance(schedule, LambdaLR)
            for group, rate, factor in zip(
                schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
            ):
                group["lr"] = rate * factor(schedule.last_epoch)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make the step's chance its own."""
        part = batch_idx % self.experiment.optimizer.accumulate
        key = (DROPOUT_STREAM, self.global_step, self.global_rank, part)
        stream = np.random.SeedSequence(self.experiment.seed, spawn_key=key)
        torch.manual_seed(int(stream.generate_state(1, np.uint64)[0]))

    def check_finite(self, loss: Float[Tensor, ""], batch: Any, remedy: str) -> None:
        """Raise an error if the loss is not finite: at once on a CPU, on a GPU after so many steps as a log's entry.

        Raises:
            SegmnError: it is not finite; the files of the batch are named.
        """
        self._unread.append((self.global_step + 1, loss.detach(), batch["name"], remedy))
        if not loss.is_cuda or len(self._unread) >= self.experiment.log.every:
            self.read_losses()

    def on_train_end(self) -> None:
        """Check the last losses.

        Raises:
            SegmnError: one is not finite.
        """
        self.read_losses()

    def read_losses(self) -> None:
        """Check the losses that are not checked yet, as must be done before weights are written or validated.

        Raises:
            SegmnError: one is not finite; the files of its batch are named.
        """
        unread, self._unread = self._unread, []
        values = torch.stack([loss for _, loss, _, _ in unread]).tolist() if unread else []
        for value, (step, _, names, remedy) in zip(values, unread, strict=True):
            if not math.isfinite(value):
                raise SegmnError(
                    f"step {step}: the loss is {value}, so training stops; its batch holds {', '.join(names)}. "
                    f"{remedy}, lower optimizer.lr or, in mixed precision, set precision to 32"
                )

    @contextmanager
    def validating(self) -> Iterator[None]:
        """Compute in full precision, on GPUs without TF32, while the block runs."""
        with torch.autocast(self.device.type, enabled=False), convolutions("ieee", tuned=False):
            yield

    def sum_over_ranks(self, counts: Tensor) -> Tensor:
        """Return counts of all processes, on the CPU."""
        total = self.trainer.strategy.reduce(counts.to(self.device), reduce_op="sum")
        assert isinstance(total, Tensor)
        return total.cpu()

    def gather(self, part: Part) -> list[Part]:
        """Return what each process gives, in the order of their ranks."""
        if self.trainer.world_size == 1:
            return [part]
        parts: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(parts, part)
        return parts

    def finish_validation(self, validation: Validation, metrics: Mapping[str, float]) -> None:
        """Keep a validation, and log it."""
        self.validation = validation
        for logger in self.loggers:
            logger.log_metrics(dict(metrics), step=self.global_step)


def _contiguous(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.contiguous() for each in inputs)
