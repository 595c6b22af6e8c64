"""Optimizers, learning-rate schedules, and moving averages of the weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from segmnv2.config.training_sections import OptimizerSection
from segmnv2.models.segmenter import Segmenter
from segmnv2.tasks.task import Task


class MovingAverage(WeightAveraging):
    """Callback that averages weights and running statistics after each step; validations use the average.

    Args:
        decay: share of the old average that a step keeps, at most (1 + n) / (10 + n) at step n. Without this bound the
            initial weights would dominate for about 1 / (1 - decay) steps.

    Source: ``tf.train.ExponentialMovingAverage`` with ``num_updates``.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Copy the task to its final device, because averages on another device would cost copies in each step."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average after a step; :class:`torch.optim.swa_utils.AveragedModel` would wait for the device."""
        step, first = trainer.global_step, self._latest_update_step == 0
        if step == self._latest_update_step:  # the batch is only a part of a step
            return
        decay = 0.0 if first else min(self.decay, (1 + step) / (10 + step))
        assert self._average_model is not None
        averages, values = (_tensors(task) for task in (self.task, pl_module))
        for floating in (True, False):
            indices = [index for index, value in enumerate(values) if value.is_floating_point() == floating]
            if indices:
                update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
                update([averages[index] for index in indices], [values[index] for index in indices], None)
        self._average_model.n_averaged += 1
        self._latest_update_step = step

    @property
    def task(self) -> Task:
        """Copy of the task with the averaged weights."""
        assert self._average_model is not None
        task = self._average_model.module
        assert isinstance(task, Task)
        return task


def _tensors(task: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*task.parameters(), *task.buffers())]


LAST_BIAS_FACTOR = 2.0


def parameter_groups(model: Segmenter, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Divide the parameters of a segmentation model into groups for an optimizer; each is in exactly one group.

    The bias of the last layer learns twice as fast. :func:`divide_parameters` chooses the parameters that decay.

    Args:
        model: the model.
        lr: learning rate.
        weight_decay: weight decay of the kernels. As in ``torch.optim.SGD``, ``weight_decay * weight`` is added to the
            gradient.

    Source: tensorflow/models research/deeplab/train.py (last layer's bias), slim/nets/mobilenet/mobilenet_v2.py
    (``training_scope``: no decay on depthwise kernels).
    """
    last_bias = [parameter for parameter in [model.head.classifier.bias] if parameter is not None]
    kernels, others = divide_parameters(model)
    others = [parameter for parameter in others if all(parameter is not bias for bias in last_bias)]
    return [
        {"name": "kernels", "params": kernels, "lr": lr, "weight_decay": weight_decay},
        {"name": "depthwise kernels, norms and biases", "params": others, "lr": lr, "weight_decay": 0.0},
        {"name": "last bias", "params": last_bias, "lr": LAST_BIAS_FACTOR * lr, "weight_decay": 0.0},
    ]


def divide_parameters(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters of a model that decay, and all others.

    Weights of convolutions and linear layers of every library decay: parameters named weight with two or more axes.
    Depthwise kernels, norms, biases, scales and position embeddings do not decay.
    """
    kernels: dict[int, Tensor] = {
        id(parameter): parameter
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if name.endswith("weight") and parameter.dim() > 1 and not _is_depthwise(module)
    }
    return list(kernels.values()), [parameter for parameter in model.parameters() if id(parameter) not in kernels]


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two groups of a model's parameters for an optimizer: those that decay, and all others."""
    kernels, others = divide_parameters(model)
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def scheduled(optimizer: torch.optim.Optimizer, factor: Callable[[int], float]) -> dict[str, Any]:
    """Return an optimizer for Lightning whose learning rate has a ``factor`` that depends on the completed steps."""
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def build_optimizer(model: Segmenter, section: OptimizerSection) -> torch.optim.SGD:
    """Return the optimizer that an experiment requests."""
    groups = parameter_groups(model, section.lr, section.weight_decay)
    return torch.optim.SGD(groups, lr=section.lr, momentum=section.momentum)


def build_schedule(
    optimizer: torch.optim.Optimizer, section: OptimizerSection, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return the schedule, which advances after each step."""
    factor = partial(rate_factor, steps=steps, power=section.power, warmup_steps=section.warmup_steps)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def rate_factor(step: int, *, steps: int, power: float, warmup_steps: int) -> float:
    """Return the factor of the learning rate after a number of steps: the poly schedule with a linear warmup."""
    return warmup_factor(step, warmup_steps) * poly_factor(step, steps=steps, power=power)


def warmup_factor(step: int, warmup_steps: float) -> float:
    """Return the factor of a linear warmup after ``step`` steps: from 1 / warmup_steps up to 1, or always 1 for 0."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


def poly_factor(step: int, *, steps: int, power: float) -> float:
    """Return the factor of the poly schedule after ``step`` steps: from 1 down to 0 at ``steps``.

    Source: ``tf.train.polynomial_decay`` with an end of 0, as in research/deeplab/utils/train_utils.py.
    """
    return float(max(0.0, 1 - step / steps) ** power)


def _is_depthwise(module: nn.Module) -> bool:
    return getattr(module, "groups", 1) == getattr(module, "in_channels", None) != 1
