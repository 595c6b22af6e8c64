"""A moving average of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from segmnv2.engine.task import Task


class MovingAverage(WeightAveraging):
    """Averages weights and running statistics after each step; validations see the average.

    Args:
        decay: share of the old average that a step keeps, once there were many: step n keeps at most
            (1 + n) / (10 + n), without which the untrained start would weigh on for some 1 / (1 - decay) steps.

    Source: ``tf.train.ExponentialMovingAverage`` with ``num_updates``.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=self._average)
        self.decay = decay
        self._step = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the step, without asking the device for it, and average."""
        self._step = trainer.global_step
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    @property
    def task(self) -> Task:
        """The average, as a task of its own."""
        assert self._average_model is not None
        task = self._average_model.module
        assert isinstance(task, Task)
        return task

    def _average(self, averages: Sequence[Tensor], values: Sequence[Tensor], _count: Any) -> None:
        decay = min(self.decay, (1 + self._step) / (10 + self._step))
        get_ema_multi_avg_fn(decay)(averages, values, _count)  # type: ignore[no-untyped-call]
