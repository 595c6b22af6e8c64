from __future__ import annotations

import pytest
import torch
from torch import nn

from segmnv2.errors import WeightsError
from segmnv2.weights.loading import compare, load_strict


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


def test_a_fitting_checkpoint_is_copied_whole() -> None:
    source, target = network(), network()
    report = load_strict(target, source.state_dict(), "file")
    assert report.fits
    assert len(report.matched) == 7
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())


def test_every_fault_is_listed_at_once() -> None:
    tensors = dict(network().state_dict())
    tensors["0.kernel"] = tensors.pop("0.weight")
    tensors["1.bias"] = torch.zeros(5)
    with pytest.raises(WeightsError) as caught:
        load_strict(network(), tensors, "some.file", "try this")
    message = str(caught.value)
    assert message.startswith("some.file: does not fit Sequential")
    for part in (
        "1 missing",
        "0.weight",
        "1 unexpected",
        "0.kernel",
        "1.bias: checkpoint (5,), network (2,)",
        "try this",
    ):
        assert part in message


def test_the_step_count_of_batch_norm_may_be_absent() -> None:
    tensors = {k: v for k, v in network().state_dict().items() if "num_batches" not in k}
    assert compare(network().state_dict(), tensors).fits


def test_long_lists_are_cut_and_counted() -> None:
    text = str(compare(nn.Linear(1, 1).state_dict(), {f"x{n}": torch.zeros(1) for n in range(20)}))
    assert "... and 14 more" in text


def test_values_that_are_not_finite_are_refused() -> None:
    tensors = dict(network().state_dict())
    tensors["0.bias"] = torch.tensor([1.0, float("nan")])
    with pytest.raises(WeightsError, match=r"0\.bias"):
        load_strict(network(), tensors, "file")
