"""Checkpoints of a run: the latest model, the best one, and the states to resume from."""

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
    """A signal stopped the run after its state was written."""


class Checkpoints(pl.Callback):
    """Callback that writes states before, after and between validations, and models after them.

    Each file is replaced only once the new one is complete. A run that ends during a validation, however it ends, has
    a state of its last step. It repeats the validation when it is resumed.

    Args:
        folder: folder of the run.
        experiment: interval and number of the states; it is also stored in the files of the models.
        timing: number of steps and interval of the validations.
        task: function that returns the task whose model is validated and written.
        record: values that the run's results depend on; they are stored in each state.
        signals: signals that stop the run after the current step or validation batch; a state is written before.

    Attributes:
        best_score: score of the best validation in percent, or ``None`` before the first.
        best_step: step of the best validation.
        saved_step: step of the latest state that was written, or ``None``.
        unvalidated: whether the validation of the current step is due but not complete.
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
        """Return the values that are stored in a state."""
        return {name: getattr(self, name) for name in ("best_score", "best_step", "record", "unvalidated")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the values of a state; its record was compared before."""
        self.best_score, self.best_step = state_dict["best_score"], state_dict["best_step"]
        self.unvalidated = state_dict.get("unvalidated", False)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Count the current batch as completed in a state; Lightning itself does so only after the state is written."""
        for progress in checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"].values():
            if isinstance(progress, dict):
                progress["completed"] = progress["ready"]

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace Lightning's signal handlers, which end the run without a state."""
        self.signals.install()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace Lightning's signal handlers, because a resumed run has no sanity check, and validate if it is due."""
        self.signals.install()
        if self.unvalidated:
            loop = trainer.fit_loop.epoch_loop.val_loop
            loop.restarting = False
            trainer.validating = True
            loop.run()
            trainer.training = True

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate if it is due in a run that is resumed after its last step and therefore does not train."""
        self.on_train_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a state if one is due, unless a validation follows, which writes one itself.

        Raises:
            StoppedError: a signal was received.
            WeightsError: the state cannot be written.
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
        """Return whether any process received a signal, because all must stop after the same step."""
        received = bool(self.signals.received)
        return received if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(received, all=False)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write a state from which an interrupted validation can be repeated."""
        if not trainer.sanity_checking:
            self.unvalidated = True
            self._save_state(trainer)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Stop on a signal, at a batch that each process has; some processes have one more.

        Raises:
            StoppedError: a signal was received.
        """
        loader: Any = trainer.val_dataloaders
        shared_batches = len(loader.dataset) // trainer.world_size // loader.batch_size
        if not trainer.sanity_checking and batch_idx < shared_batches and self._must_stop(trainer):
            raise StoppedError

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the models and a state.

        Raises:
            StoppedError: a signal was received before the last step.
            WeightsError: a file cannot be written.
        """
        assert isinstance(pl_module, Task)
        validation = pl_module.validation
        if trainer.sanity_checking or validation is None:
            return
        self.unvalidated = False
        # The score is NaN if nothing was counted; any number is better.
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
        """Write Lightning's checkpoint to a temporary file in the folder and rename it.

        Lightning's own temporary file may be on another disk.

        Raises:
            SegmnError: a loss since the last check is not finite, so the state would be useless.
            WeightsError: the state cannot be written.
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
        """Keep a copy of a state under the name of its step, and delete all but the latest copies."""
        keep = self.experiment.checkpoint.keep
        if keep > 1:
            named = self.folder.state_of(step)
            named.unlink(missing_ok=True)
            try:
                os.link(complete, named)
            except OSError:  # some file systems have no links
                with atomic_path(named) as partial:
                    shutil.copyfile(complete, partial)
        for old in self.folder.states()[keep if keep > 1 else 0 :]:
            with suppress(OSError):
                old.unlink()
