"""The logs of a run: what is measured each step, a CSV table that a resumed run continues, and lines for people."""

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
    """Return the loss of a part of a step, which Lightning divides by the number of parts."""
    loss: Tensor = outputs["loss"].detach()
    return loss * trainer.accumulate_grad_batches


class StepLog(pl.Callback):
    """Gives the loggers, every so many steps and after the last, the mean loss of all processes since the last entry.

    Args:
        every: steps between entries.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._losses: list[Tensor] = []
        self._images = 0
        self._lr = 0.0
        self._seconds = 0.0
        self._began = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the step's learning rate, before the schedule moves on, and start the clock if it stands."""
        self._lr = trainer.optimizers[0].param_groups[0]["lr"]
        self._began = self._began or time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the step, and log when it is time."""
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
        self._began = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._pause()

    def _pause(self) -> None:
        self._seconds += time.perf_counter() - self._began if self._began else 0.0
        self._began = 0.0


class RunLog(Logger):
    """Methods that Lightning needs of every log, beside the measures themselves."""

    @property
    def name(self) -> str:
        """Lightning's name of the log."""
        return type(self).__name__

    @property
    def version(self) -> str:
        """A run has one log of a kind."""
        return ""

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Leave them to ``config.yaml``."""


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the whole rows of a run's table; none where there is no file, or a damaged one.

    A row that a power cut left incomplete is skipped.
    """
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            return [row for row in csv.DictReader(file) if (row.get("step") or "").isdecimal()]
    except (FileNotFoundError, csv.Error):
        return []


class CsvLog(RunLog):
    """One table of the whole run: a row an entry, a column a measure, empty where an entry has none.

    Lightning's own would delete the table of the run that is resumed.

    Args:
        path: the file.
        columns: the measures, beside ``step``.
        resume_step: keep the rows of the file up to this step; without it, restart.
    """

    def __init__(self, path: Path, columns: Sequence[str], resume_step: int | None = None) -> None:
        super().__init__()
        self.path = path
        self.columns = ("step", *columns)
        self._begin(resume_step)

    @rank_zero_only
    def _begin(self, resume_step: int | None) -> None:
        """Write the table with the rows to keep, beside its place: a resumed run must not lose them to a crash."""
        rows = [] if resume_step is None else [row for row in read_rows(self.path) if int(row["step"]) <= resume_step]
        with atomic_path(self.path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(rows)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row.

        Raises:
            FileNotFoundError: the table is gone, and with it the run's folder.
            OSError: it cannot be written; the error names it.
        """
        try:
            with self.path.open("r+", newline="", encoding="utf-8") as file:
                file.seek(0, io.SEEK_END)
                writer = csv.DictWriter(file, self.columns, extrasaction="ignore", restval="")
                writer.writerow({"step": step, **{key: f"{value:.6g}" for key, value in metrics.items()}})
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error


class LineLog(RunLog):
    """Lines for people, where no progress bar can be.

    Args:
        write: takes a line.
        steps: total number of steps.
        describe_validation: puts a validation's measures into words.
        training: whether losses are written too, not only validations.
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
    """Return the log; a resumed run continues its own.

    Args:
        experiment: its ``log.wandb`` names the project.
        folder: folder of the run.
        name_file: holds the run's name there.

    Raises:
        ConfigError: the package is not installed.
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
            "`pip install wandb`, or -o log.wandb=null"
        ) from error
