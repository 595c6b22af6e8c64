from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segmnv2.weights.tensorflow_checkpoint import TensorFlowCheckpoint, VariableKind, classify
from tests.weights.tensor_bundle_writer import read_all


@pytest.mark.parametrize(
    ("path", "weights", "trainable", "step"),
    [
        ("deeplabv3_mnv2_pascal_train_aug/model.ckpt-30000", 272, 2_113_557, 30_000),
        ("mobilenet_v2_1.0_224/mobilenet_v2_1.0_224.ckpt", 260, 2_223_872, 0),
    ],
)
def test_published_checkpoints_are_read_completely(
    shared: Path, path: str, weights: int, trainable: int, step: int
) -> None:
    values = read_all(TensorFlowCheckpoint.open(shared / "weights" / path))
    network = {name: value for name, value in values.items() if classify(name) is VariableKind.WEIGHT}
    assert len(network) == weights
    assert set(values) - set(network) == {"global_step"}
    assert int(values["global_step"]) == step
    assert all(value.dtype == torch.float32 and bool(value.isfinite().all()) for value in network.values())
    statistics = ("moving_mean", "moving_variance")
    assert sum(value.numel() for name, value in network.items() if not name.endswith(statistics)) == trainable
    assert all(bool((value >= 0).all()) for name, value in network.items() if name.endswith("moving_variance"))
