"""The paper's optimizer: which weights decay, and how the learning rate falls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from segmnv2.config import OptimizerSection
from segmnv2.models.segmenter import Segmenter

LAST_BIAS_FACTOR = 2.0


def parameter_groups(model: Segmenter, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Divide the weights into groups for an optimizer; each weight is in exactly one.

    Decayed are the kernels of convolutions that are not depthwise; neither batch norms nor biases are. The bias of
    the last layer learns twice as fast.

    Args:
        model: the network.
        lr: learning rate.
        weight_decay: of the decayed kernels; as in ``torch.optim.SGD`` the gradient gains ``weight_decay * weight``.

    Source: tensorflow/models research/deeplab/train.py (last layer's bias), slim/nets/mobilenet/mobilenet_v2.py
    (``training_scope``: no decay on depthwise kernels).
    """
    last_bias = [parameter for parameter in [model.head.logits.bias] if parameter is not None]
    kernels, others = divide_parameters(model)
    others = [parameter for parameter in others if all(parameter is not bias for bias in last_bias)]
    return [
        {"name": "kernels", "params": kernels, "lr": lr, "weight_decay": weight_decay},
        {"name": "depthwise kernels, norms and biases", "params": others, "lr": lr, "weight_decay": 0.0},
        {"name": "last bias", "params": last_bias, "lr": LAST_BIAS_FACTOR * lr, "weight_decay": 0.0},
    ]


def divide_parameters(model: nn.Module, extra: Sequence[Tensor] = ()) -> tuple[list[Tensor], list[Tensor]]:
    """Return the kernels of convolutions that are not depthwise, and all other weights.

    Args:
        model: the network.
        extra: weights that are put to the kernels.
    """
    kernels: list[Tensor] = [
        module.weight for module in model.modules() if isinstance(module, nn.Conv2d) and not _is_depthwise(module)
    ]
    kernels += extra
    taken = {id(parameter) for parameter in kernels}
    return kernels, [parameter for parameter in model.parameters() if id(parameter) not in taken]


def build_optimizer(model: Segmenter, section: OptimizerSection) -> torch.optim.SGD:
    """Return the optimizer that an experiment asks for."""
    groups = parameter_groups(model, section.lr, section.weight_decay)
    return torch.optim.SGD(groups, lr=section.lr, momentum=section.momentum)


def build_schedule(
    optimizer: torch.optim.Optimizer, section: OptimizerSection, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return the schedule, to be advanced once a step."""
    factor = partial(rate_factor, steps=steps, power=section.power, warmup_steps=section.warmup_steps)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def rate_factor(step: int, *, steps: int, power: float, warmup_steps: int) -> float:
    """Return what the learning rate of step 0, 1, ... is multiplied by: the poly schedule, times a rise to 1 at first.

    Args:
        step: optimizer steps done.
        steps: in all.
        power: of the poly schedule.
        warmup_steps: the first of them has the factor 1 / warmup_steps, the last one 1; 0 leaves the schedule alone.
    """
    rise = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return rise * poly_factor(step, steps=steps, power=power)


def poly_factor(step: int, *, steps: int, power: float) -> float:
    """Return what the first learning rate is multiplied by for step 0, 1, ..., from 1 down to 0 at ``steps``.

    Source: ``tf.train.polynomial_decay`` with an end of 0, as in research/deeplab/utils/train_utils.py.
    """
    return float(max(0.0, 1 - step / steps) ** power)


def _is_depthwise(conv: nn.Conv2d) -> bool:
    return conv.groups == conv.in_channels > 1
