"""Checkpoints of a run: the latest network, the best one, and the states to resume from."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from segmnv2.config.reading import AnyExperiment
from segmnv2.errors import WeightsError
from segmnv2.files.atomic import atomic_path
from segmnv2.signals import Held
from segmnv2.tasks.task import Task, Timing, Validation
from segmnv2.training.run_folder import Record, RunFolder


class StoppedError(Exception):
    """The run was asked to stop; its state is written."""


class Checkpoints(pl.Callback):
    """Writes states before, after and between validations, and networks after them.

    Each file is replaced only once the new one is complete. A run that ends in a validation, however it ends, has a
    state of its last step, and repeats the validation when it is resumed.

    Args:
        folder: where.
        experiment: when and how many; and what the networks' files say they come from.
        timing: the steps of validations and of the end.
        task: gives the task whose network is validated and kept.
        record: everything that the run's results depend on, for the state.
        signals: signals that end the run, with a state, after its step or the present batch of a validation.

    Attributes:
        best_score: the best validation's, in percent, or ``None`` before the first.
        best_step: its step.
        saved_step: step of the latest state that was written, or ``None``.
        unvalidated: whether the validation of the present step is due, and not done.
    """

    def __init__(
        self,
        folder: RunFolder,
        experiment: AnyExperiment,
        timing: Timing,
        task: Callable[[], Task],
        record: Record,
        signals: Held | None = None,
    ) -> None:
        self.folder = folder
        self.experiment = experiment
        self.timing = timing
        self.task = task
        self.record = record
        self.signals = signals or Held()
        self.best_score: float | None = None
        self.best_step = 0
        self.saved_step: int | None = None
        self.unvalidated = False

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must remember."""
        own = ("best_score", "best_step", "record", "unvalidated")
        return {name: getattr(self, name) for name in own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best validation; the record was compared before."""
        self.best_score, self.best_step = state_dict["best_score"], state_dict["best_step"]
        self.unvalidated = state_dict.get("unvalidated", False)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Count the batch after whose end a state is written as done: Lightning does so a moment later only."""
        for progress in checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"].values():
            if isinstance(progress, dict):
                progress["completed"] = progress["ready"]

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals back from Lightning, whose handler ends the run without a state."""
        self.signals.install()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals back from Lightning, as a resumed run has no check before, and validate if that is due."""
        self.signals.install()
        if self.unvalidated:
            loop = trainer.fit_loop.epoch_loop.val_loop
            loop.restarting = False
            trainer.validating = True
            loop.run()
            trainer.training = True

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate if that is due where a run is resumed after its last step, without training."""
        self.on_train_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a state if one is due and no validation, which writes one too, comes next.

        Raises:
            StoppedError: a signal requests it.
            WeightsError: it cannot be written.
        """
        step, every = trainer.global_step, self.experiment.checkpoint.every
        validated = step % self.timing.validate_every == 0 or step >= self.timing.steps
        if validated or (batch_idx + 1) % self.experiment.optimizer.accumulate:
            return
        stopping = self._must_stop(trainer)
        if stopping or (every is not None and step % every == 0):
            self._save_state(trainer)
        if stopping:
            raise StoppedError

    def _must_stop(self, trainer: pl.Trainer) -> bool:
        """Return whether any process has a signal: all must stop after the same step."""
        ours = bool(self.signals.received)
        return ours if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(ours, all=False)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write a state, from which an interrupted validation is repeated.

        Raises:
            WeightsError: it cannot be written.
        """
        if not trainer.sanity_checking:
            self.unvalidated = True
            self._save_state(trainer)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Stop on request, at a batch that each process has: some have one more.

        Raises:
            StoppedError: a signal requests it.
        """
        loader: Any = trainer.val_dataloaders
        common = len(loader.dataset) // trainer.world_size // loader.batch_size
        if not trainer.sanity_checking and batch_idx < common and self._must_stop(trainer):
            raise StoppedError

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the files.

        Raises:
            StoppedError: a signal requests it, and there are steps to do yet.
            WeightsError: one cannot be written.
        """
        assert isinstance(pl_module, Task)
        validation = pl_module.validation
        if trainer.sanity_checking or validation is None:
            return
        self.unvalidated = False
        # NaN, when nothing was counted, is better than nothing and worse than any number.
        best = self.best_score
        if best is None or validation.score > best or (math.isnan(best) and not math.isnan(validation.score)):
            self.best_score, self.best_step = validation.score, validation.step
            self._save_model(trainer, validation, best=True)
        self._save_model(trainer, validation, best=False)
        self._save_state(trainer)
        if trainer.global_step < self.timing.steps and self._must_stop(trainer):
            raise StoppedError

    def _save_model(self, trainer: pl.Trainer, validation: Validation, *, best: bool) -> None:
        if not trainer.is_global_zero:
            return
        task, score = self.task(), None if math.isnan(validation.score) else validation.score
        key = f"val_{task.score_key}"
        provenance = {"experiment": self.experiment.to_dict(), "step": validation.step, key: score}
        task.save_network(self.folder.best if best else self.folder.last, provenance)

    def _save_state(self, trainer: pl.Trainer) -> None:
        """Write Lightning's checkpoint beside its place, then move it there: Lightning itself may copy across disks.

        Raises:
            SegmnError: a loss since the last check was not finite: the state would be of no use.
            WeightsError: it cannot be written.
        """
        task = trainer.lightning_module
        assert isinstance(task, Task)
        task.read_losses()
        partial = self.folder.state.with_name(f".{self.folder.state.name}.partial")
        if trainer.is_global_zero:
            self.folder.check_present()
        try:
            trainer.save_checkpoint(partial)
            if trainer.is_global_zero:
                with partial.open("rb+") as file:
                    os.fsync(file.fileno())
                self._keep(partial, trainer.global_step)
                partial.replace(self.folder.state)
        except OSError as error:
            raise WeightsError(
                f"{self.folder.state}: cannot be written ({error}); make room on the disk and resume with --resume last"
            ) from error
        finally:
            if trainer.is_global_zero:
                partial.unlink(missing_ok=True)
        self.saved_step = trainer.global_step

    def _keep(self, complete: Path, step: int) -> None:
        """Keep a state under its step's name too, and of those only the latest."""
        keep = self.experiment.checkpoint.keep
        if keep > 1:
            named = self.folder.state_of(step)
            named.unlink(missing_ok=True)
            try:
                os.link(complete, named)
            except OSError:  # not every file system has links
                with atomic_path(named) as partial:
                    shutil.copyfile(complete, partial)
        kept = self.folder.states() if keep > 1 else []
        for old in set(self.folder.states()) - set(kept[:keep]):
            with suppress(OSError):
                old.unlink()
