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

IGNORED_WARNINGS = (
    # The user chooses the number of workers, and 0 suits generated data.
    ".*does not have many workers.*",
    # Lightning's own code causes it.
    ".*LeafSpec.*is deprecated.*",
    # The experiment names the device.
    "GPU available but not used.*",
    # Frozen batch norms are in evaluation mode.
    ".*module\\(s\\) in eval mode.*",
    # Slurm may be installed without being used.
    ".*`srun` command is available.*",
    # Resumed runs write to an existing folder.
    ".*Experiment logs directory.*",
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hide Lightning's messages and :data:`IGNORED_WARNINGS` while the block runs; other warnings are shown."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    original_hook = threading.excepthook

    def report_other_errors(fault: threading.ExceptHookArgs) -> None:
        """Ignore write errors in TensorBoard's thread, because the run itself reports them."""
        if not isinstance(fault.exc_value, OSError):
            original_hook(fault)

    threading.excepthook = report_other_errors
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for pattern in IGNORED_WARNINGS:
                warnings.filterwarnings("ignore", message=pattern)
            yield
    finally:
        threading.excepthook = original_hook
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


SMOOTHING = 0.95

LOSS_SECONDS = 1.0
"""Seconds between two updates of the displayed loss."""


class ProgressBar(pl.Callback):
    """Progress bar of the steps with a running mean of the loss, and a second bar during validations.

    Args:
        console: the terminal.
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
        self._note, self._loss_time = "", -math.inf

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
        """Advance the bar to the current step."""
        loss = whole_loss(trainer, outputs)
        self._loss = loss if self._loss is None else SMOOTHING * self._loss + (1 - SMOOTHING) * loss
        assert self._steps is not None
        if time.monotonic() - self._loss_time >= LOSS_SECONDS:  # reading the loss waits for a GPU
            self._note, self._loss_time = f"loss {float(self._loss):.4f}", time.monotonic()
        self.progress.update(self._steps, completed=trainer.global_step, note=self._note)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the second bar."""
        if not trainer.sanity_checking:
            total = sum(float(count) for count in trainer.num_val_batches)
            self._images = self.progress.add_task("validating", total=total, note="")

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        """Advance the second bar by a batch."""
        if self._images is not None:
            self.progress.advance(self._images)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the second bar."""
        if self._images is not None:
            self.progress.remove_task(self._images)
            self._images = None

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Stop the bar, which stays on the screen."""
        self.progress.stop()

    on_exception = on_train_end
