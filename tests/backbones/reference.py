"""What parity tests share."""

from __future__ import annotations

from typing import Any

from torch import nn

from segmnv2.backbones.backbone import Backbone
from segmnv2.weights.key_tables import KeyTable
from segmnv2.weights.loading import load_strict


def randomize_norms(module: nn.Module) -> None:
    """Give batch norms statistics and affine values of a trained network's kind."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            bounds: list[tuple[Any, float, float]] = [(norm.running_mean, -0.3, 0.3), (norm.running_var, 0.5, 2.0)]
            bounds += [(norm.weight, 0.5, 1.5), (norm.bias, -0.5, 0.5)]
            for values, low, high in bounds:
                nn.init.uniform_(values, low, high)


def load_theirs(ours: Backbone, theirs: nn.Module, table: KeyTable) -> None:
    """Load another library's weights, every one of ours filled."""
    names = table.ours([f"backbone.{name}" for name in ours.state_dict()])
    tensors = {names[k].removeprefix("backbone."): v for k, v in theirs.state_dict().items() if k in names}
    load_strict(ours, tensors, "theirs")
