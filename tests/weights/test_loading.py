from __future__ import annotations

import pytest
import torch
from torch import nn

from segmnv2.errors import WeightsError
from segmnv2.weights.loading import build_filled, compare, load_strict


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


def test_a_fitting_checkpoint_is_copied_whole() -> None:
    source, target = network(), network()
    report = load_strict(target, source.state_dict(), "file")
    assert report.fits
    assert len(report.matched) == 7
    loaded = target.state_dict()
    assert all(torch.equal(v, loaded[k]) for k, v in source.state_dict().items())


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
        "1.bias: checkpoint (5,), model (2,)",
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


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex64, torch.int64, torch.bool])
def test_tensors_of_another_kind_of_number_are_refused(dtype: torch.dtype) -> None:
    layer = nn.Linear(2, 1)
    state = {name: tensor.detach().to(dtype) for name, tensor in layer.state_dict().items()}
    with pytest.raises(WeightsError, match=f"file: (weight|bias) is of type {dtype}, the model's is torch.float32"):
        load_strict(layer, state, "file")


def test_what_is_infinite_in_the_networks_type_is_refused() -> None:
    layer = nn.Linear(2, 1)
    state = {"weight": torch.full((1, 2), 1e300, dtype=torch.float64), "bias": torch.zeros(1)}
    with pytest.raises(WeightsError, match="hold NaN or infinity"):
        load_strict(layer, state, "file")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted(dtype: torch.dtype) -> None:
    layer = nn.Linear(2, 1)
    load_strict(layer, {"weight": torch.ones(1, 2, dtype=dtype), "bias": torch.zeros(1, dtype=dtype)}, "file")
    assert layer.weight.dtype == torch.float32
    assert layer.weight.tolist() == [[1, 1]]


def test_a_network_that_does_not_fit_is_never_allocated() -> None:
    places = []

    def build() -> nn.Module:
        places.append(torch.get_default_device().type)
        return nn.Linear(2, 10**9)

    with pytest.raises(WeightsError, match="file: does not fit Linear"):
        build_filled(build, {"weight": torch.zeros(1, 2), "bias": torch.zeros(1)}, "file")
    assert places == ["meta"]


@pytest.mark.parametrize(("absent", "builds"), [((), ["meta"]), (("1.num_batches_tracked",), ["meta", "cpu"])])
def test_a_network_whose_tensors_are_all_in_the_checkpoint_is_built_once(
    absent: tuple[str, ...], builds: list[str]
) -> None:
    places = []

    def build() -> nn.Module:
        places.append(torch.get_default_device().type)
        return network()

    source = {name: tensor for name, tensor in network().state_dict().items() if name not in absent}
    filled = build_filled(build, source, "file", all_stored=True).state_dict()
    assert places == builds
    assert {tensor.device.type for tensor in filled.values()} == {"cpu"}
    assert all(torch.equal(tensor, filled[name]) for name, tensor in source.items())
    assert filled["1.num_batches_tracked"] == 0
