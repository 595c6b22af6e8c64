"""Base class of tasks: random numbers, memory layout, checks of the loss and the interface to a run."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

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
    """Length of a run and interval of its validations, in optimizer steps.

    Attributes:
        steps: total number of steps.
        validate_every: steps between two validations.
    """

    steps: int
    validate_every: int


def epoch_timing(experiment: ClassificationExperiment | DetectionExperiment, images: int) -> Timing:
    """Return the timing of an experiment with epochs.

    Args:
        experiment: epochs and batch size.
        images: number of training images.
    """
    steps = images / experiment.data.batch_size
    return Timing(max(1, round(experiment.epochs * steps)), max(1, round(experiment.validation.every * steps)))


@dataclass(frozen=True)
class Validation:
    """Result of one validation.

    Attributes:
        step: number of completed optimizer steps.
        score: score by which models are compared, in percent; NaN if nothing was counted.
    """

    step: int
    score: float


class Task(pl.LightningModule):
    """A model in training.

    The random numbers of a step (dropout) depend only on the seed, the step, its part and the rank, as those of the
    data do. So a resumed run has the same random numbers as an uninterrupted one.

    Args:
        model: the model with its initial weights.
        experiment: optimizer, seed and validation.
        timing: length of the run and interval of its validations.

    Attributes:
        model: the model.
        score_name: name of the score in messages.
        score_key: name of the score in logs, after ``val/``, and in files.
        validation: the latest validation, if any.
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
        self._pending: list[tuple[int, Tensor, Sequence[str], str]] = []
        if experiment.channels_last:
            model.to(memory_format=torch.channels_last)
        else:
            backbone = model.backbone
            assert isinstance(backbone, nn.Module)
            backbone.register_forward_pre_hook(_contiguous)  # batches are channels last, and convolutions keep that

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Names of a validation's measures."""

    @abstractmethod
    def describe_validation(self, metrics: Mapping[str, float]) -> str:
        """Return a short text with a validation's measures."""

    @abstractmethod
    def save_network(self, path: Path, provenance: Mapping[str, Any]) -> Path:
        """Write the model to a file from which it can be rebuilt.

        Raises:
            WeightsError: the file cannot be written.
        """

    def on_train_start(self) -> None:
        """Check that all processes start from the same step, and set the learning rate of the schedule.

        The rate in a state follows an older schedule if the run was made longer since.

        Raises:
            SegmnError: the steps differ, for example because the machines do not share the run's folder.
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
        """Seed the random generators for this step."""
        part = batch_idx % self.experiment.optimizer.accumulate
        key = (DROPOUT_STREAM, self.global_step, self.global_rank, part)
        stream = np.random.SeedSequence(self.experiment.seed, spawn_key=key)
        torch.manual_seed(int(stream.generate_state(1, np.uint64)[0]))

    def check_finite(self, loss: Float[Tensor, ""], batch: Any, remedy: str) -> None:
        """Check the loss of a batch: at once on a CPU, after every ``log.every`` batches on a GPU.

        Raises:
            SegmnError: a loss is not finite; the message names the files of the batch and the ``remedy``.
        """
        self._pending.append((self.global_step + 1, loss.detach(), batch["name"], remedy))
        if not loss.is_cuda or len(self._pending) >= self.experiment.log.every:
            self.read_losses()

    def on_train_end(self) -> None:
        """Check the last losses."""
        self.read_losses()

    def read_losses(self) -> None:
        """Check the losses that are still pending, which must precede each writing or validation of weights.

        Raises:
            SegmnError: a loss is not finite; the message names the files of its batch.
        """
        pending, self._pending = self._pending, []
        values = torch.stack([loss for _, loss, _, _ in pending]).tolist() if pending else []
        for value, (step, _, names, remedy) in zip(values, pending, strict=True):
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
        """Return the sum of the counts of all processes, on the CPU."""
        total = self.trainer.strategy.reduce(counts.to(self.device), reduce_op="sum")
        assert isinstance(total, Tensor)
        return total.cpu()

    def gather(self, part: Part) -> list[Part]:
        """Return the parts of all processes, in the order of their ranks."""
        if self.trainer.world_size == 1:
            return [part]
        parts: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(parts, part)
        return parts

    def finish_validation(self, metrics: Mapping[str, float]) -> None:
        """Store the score of a validation and log its measures."""
        self.validation = Validation(self.global_step, metrics[f"val/{self.score_key}"])
        for logger in self.loggers:
            logger.log_metrics(dict(metrics), step=self.global_step)


def _contiguous(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.contiguous() for value in inputs)
