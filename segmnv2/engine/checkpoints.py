"""What is kept of a run: the latest network, the best one, and the state to go on from."""

from __future__ import annotations

import math
import os
from typing import Any

import lightning.pytorch as pl

from segmnv2.engine.run_folder import RunFolder
from segmnv2.engine.task import SegmentationTask, Validation
from segmnv2.errors import WeightsError
from segmnv2.models.file import save_model


class Checkpoints(pl.Callback):
    """Writes after each validation; each file is replaced only once the new one is complete.

    The state comes last: whenever it is there, the networks beside it are at least as new.

    Args:
        folder: where.
        experiment: what the networks' files say they come from, as JSON values.

    Attributes:
        best_miou: the best validation's, in percent, or ``None`` before the first.
        best_step: its step.
    """

    def __init__(self, folder: RunFolder, experiment: dict[str, Any]) -> None:
        self.folder = folder
        self.experiment = experiment
        self.best_miou: float | None = None
        self.best_step = 0
        self.saved_step: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must remember."""
        return {"best_miou": self.best_miou, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember it."""
        self.best_miou, self.best_step = state_dict["best_miou"], state_dict["best_step"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the files.

        Raises:
            WeightsError: one cannot be written.
        """
        assert isinstance(pl_module, SegmentationTask)
        validation = pl_module.validation
        if trainer.sanity_checking or validation is None:
            return
        # NaN, when nothing was counted, is better than nothing and worse than any number.
        best = self.best_miou
        if best is None or validation.miou > best or (math.isnan(best) and not math.isnan(validation.miou)):
            self.best_miou, self.best_step = validation.miou, validation.step
            self._save_model(trainer, pl_module, validation, best=True)
        self._save_model(trainer, pl_module, validation, best=False)
        self._save_state(trainer)
        self.saved_step = validation.step

    def _save_model(self, trainer: pl.Trainer, task: SegmentationTask, validation: Validation, *, best: bool) -> None:
        if not trainer.is_global_zero:
            return
        miou = None if math.isnan(validation.miou) else validation.miou
        provenance = {"experiment": self.experiment, "step": validation.step, "val_miou": miou}
        save_model(self.folder.best if best else self.folder.last, task.model, provenance)

    def _save_state(self, trainer: pl.Trainer) -> None:
        """Write Lightning's checkpoint beside its place, then move it there: Lightning itself may copy across disks."""
        partial = self.folder.state.with_name(f".{self.folder.state.name}.partial")
        try:
            trainer.save_checkpoint(partial)
            if trainer.is_global_zero:
                with partial.open("rb+") as file:
                    os.fsync(file.fileno())
                partial.replace(self.folder.state)
        except OSError as error:
            raise WeightsError(
                f"{self.folder.state}: cannot be written ({error}); make room on the disk and go on with --resume"
            ) from error
        finally:
            if trainer.is_global_zero:
                partial.unlink(missing_ok=True)
