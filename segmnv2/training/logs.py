"""Logs of a run: measures of the steps, a CSV table that a resumed run continues, and lines of text."""

from __future__ import annotations

import csv
import io
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from segmnv2.config.reading import AnyExperiment
from segmnv2.errors import ConfigError
from segmnv2.files.atomic import atomic_path

TRAIN_COLUMNS = ("train/loss", "train/lr", "train/images_per_second")


def whole_loss(trainer: pl.Trainer, outputs: Any) -> Tensor:
    """Return the loss of a part of a step without Lightning's division by the number of parts."""
    loss: Tensor = outputs["loss"].detach()
    return loss * trainer.accumulate_grad_batches


class StepLog(pl.Callback):
    """Callback that logs loss, learning rate and speed at an interval and after the last step.

    The loss is the mean over all processes and all steps since the previous entry.

    Args:
        every: steps between entries.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._losses: list[Tensor] = []
        self._images = 0
        self._lr = 0.0
        self._seconds = 0.0
        self._started = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Store the learning rate before the schedule changes it, and start the clock unless it runs already."""
        self._lr = trainer.optimizers[0].param_groups[0]["lr"]
        self._started = self._started or time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch to the current entry, and log the entry if it is due."""
        self._losses.append(whole_loss(trainer, outputs))
        self._images += len(batch["name"]) * trainer.world_size
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if trainer.global_step % self.every and trainer.global_step != trainer.max_steps:
            return
        self._pause()
        loss = torch.stack(self._losses).mean()
        entry = {
            "train/loss": float(trainer.strategy.reduce(loss, reduce_op="mean")),
            "train/lr": self._lr,
            "train/images_per_second": self._images / self._seconds,
        }
        for logger in trainer.loggers:
            logger.log_metrics(entry, step=trainer.global_step)
        self._losses, self._images, self._seconds = [], 0, 0.0
        self._started = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._pause()

    def _pause(self) -> None:
        self._seconds += time.perf_counter() - self._started if self._started else 0.0
        self._started = 0.0


class RunLog(Logger):
    """Base class of loggers that implement only ``log_metrics``."""

    @property
    def name(self) -> str:
        """Name of the class."""
        return type(self).__name__

    @property
    def version(self) -> str:
        """Empty, because a run has one logger of each class."""
        return ""

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing, because ``config.yaml`` has the hyperparameters."""


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a run's table that have a step; none if the file is missing or damaged."""
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            return [row for row in csv.DictReader(file) if (row.get("step") or "").isdecimal()]
    except (FileNotFoundError, csv.Error):
        return []


class CsvLog(RunLog):
    """CSV table of the whole run: one row for each entry, one column for each measure.

    Lightning's own logger would delete the table when a run is resumed.

    Args:
        path: file of the table.
        columns: names of the measures; ``step`` is added.
        resume_step: last step whose rows are kept; ``None`` starts a new table.
    """

    def __init__(self, path: Path, columns: Sequence[str], resume_step: int | None = None) -> None:
        super().__init__()
        self.path = path
        self.columns = ("step", *columns)
        self._write_kept_rows(resume_step)

    @rank_zero_only
    def _write_kept_rows(self, resume_step: int | None) -> None:
        """Write the kept rows to a temporary file and rename it, so that a crash does not lose them."""
        rows = [] if resume_step is None else [row for row in read_rows(self.path) if int(row["step"]) <= resume_step]
        with atomic_path(self.path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(rows)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row.

        Raises:
            FileNotFoundError: the table is missing, because the run's folder was removed.
            OSError: the table cannot be written; the error names the file.
        """
        try:
            with self.path.open("r+", newline="", encoding="utf-8") as file:
                file.seek(0, io.SEEK_END)
                writer = csv.DictWriter(file, self.columns, extrasaction="ignore", restval="")
                writer.writerow({"step": step, **{key: f"{value:.6g}" for key, value in metrics.items()}})
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error


class LineLog(RunLog):
    """Logger that writes each entry as a line of text.

    Args:
        write: function that receives each line.
        steps: total number of steps.
        describe_validation: function that describes the measures of a validation.
        training: whether to write losses too, not only validations.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        steps: int,
        describe_validation: Callable[[Mapping[str, float]], str],
        *,
        training: bool = True,
    ) -> None:
        super().__init__()
        self.write = write
        self.steps = steps
        self.describe_validation = describe_validation
        self.training = training

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write a line."""
        if "train/loss" not in metrics:
            self.write(f"step {step}/{self.steps}: validation {self.describe_validation(metrics)}")
        elif self.training:
            self.write(
                f"step {step}/{self.steps}: loss {metrics['train/loss']:.4f}, learning rate {metrics['train/lr']:.2e}, "
                f"{metrics['train/images_per_second']:.1f} images/s"
            )


def build_wandb_log(experiment: AnyExperiment, folder: Path, name_file: Path) -> WandbLogger:
    """Return the logger of Weights & Biases; a resumed run continues its own log.

    Args:
        experiment: an experiment whose ``log.wandb`` is the name of the project.
        folder: folder of the run.
        name_file: file with the run's id at Weights & Biases, which is written if it is missing.

    Raises:
        ConfigError: the package wandb is not installed.
    """
    if not name_file.exists():
        with atomic_path(name_file) as partial:
            partial.write_text(uuid.uuid4().hex[:12], encoding="utf-8")
    try:
        return WandbLogger(
            name=experiment.name,
            project=experiment.log.wandb,
            save_dir=folder,
            id=name_file.read_text(encoding="utf-8").strip(),
            resume="allow",
        )
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"log.wandb: {experiment.log.wandb!r} needs the package wandb, which is not installed; "
            "run `pip install wandb`, or give -o log.wandb=null"
        ) from error
