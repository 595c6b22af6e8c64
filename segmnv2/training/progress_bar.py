"""Progress bar of a run, without the messages of Lightning."""

from __future__ import annotations

import logging
import math
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from segmnv2.training.logs import whole_loss

LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning_fabric", "pytorch_lightning")

MEANINGLESS = (
    # Number of workers is the user's choice, and 0 is right for generated data.
    ".*does not have many workers.*",
    # Dependencies of Lightning's own.
    ".*LeafSpec.*is deprecated.*",
    # The device is named in the experiment.
    "GPU available but not used.*",
    # Frozen batch norms are.
    ".*module\\(s\\) in eval mode.*",
    # Slurm's command may be there without a job of it.
    ".*`srun` command is available.*",
    # A user's folder for several runs is no mistake.
    ".*Experiment logs directory.*",
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what is listed above while the block runs; other warnings and all errors come through."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    report = threading.excepthook

    def report_others(fault: threading.ExceptHookArgs) -> None:
        """Pass over what the thread that writes for TensorBoard cannot write: the run itself reports it."""
        if not isinstance(fault.exc_value, OSError):
            report(fault)

    threading.excepthook = report_others
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for pattern in MEANINGLESS:
                warnings.filterwarnings("ignore", message=pattern)
            yield
    finally:
        threading.excepthook = report
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


SMOOTHING = 0.95

READ_SECONDS = 1.0
"""Time between two losses that are shown."""


class ProgressBar(pl.Callback):
    """One bar for the steps with a running mean of the loss, and one below while a validation lasts.

    Args:
        console: a terminal.
    """

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._steps: TaskID | None = None
        self._images: TaskID | None = None
        self._loss: Tensor | None = None
        self._note, self._read = "", -math.inf

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        self.progress.console.print(line, highlight=False, markup=False)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        self.progress.start()
        done = trainer.global_step
        self._steps = self.progress.add_task("training", total=trainer.max_steps, completed=done, note="")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on by a step."""
        loss = whole_loss(trainer, outputs)
        self._loss = loss if self._loss is None else SMOOTHING * self._loss + (1 - SMOOTHING) * loss
        assert self._steps is not None
        if time.monotonic() - self._read >= READ_SECONDS:  # a GPU is waited for
            self._note, self._read = f"loss {float(self._loss):.4f}", time.monotonic()
        self.progress.update(self._steps, completed=trainer.global_step, note=self._note)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the second bar."""
        if not trainer.sanity_checking:
            total = sum(float(count) for count in trainer.num_val_batches)
            self._images = self.progress.add_task("validating", total=total, note="")

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        """Move on by an image."""
        if self._images is not None:
            self.progress.advance(self._images)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the second bar away."""
        if self._images is not None:
            self.progress.remove_task(self._images)
            self._images = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self.progress.stop()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the bar as it stands."""
        self.progress.stop()
