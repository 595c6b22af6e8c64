from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from segmnv2.errors import SegmnWarning
from segmnv2.models.classifier import create_classifier
from segmnv2.models.pixels import CHECKS, CHECKS_LEFT, check_range
from segmnv2.models.zoo import create_model

RIGHT = torch.rand(1, 3, 33, 33, generator=torch.Generator().manual_seed(0)) * 255
WRONG = {
    "0..1": RIGHT / 255,
    "-1..1": RIGHT / 127.5 - 1,
    "standardized": (RIGHT - 120) / 58,
    "without mean": RIGHT - 120,
    "12 bits": RIGHT * 16,
}


def small(train: bool = False) -> nn.Module:
    return create_model("deeplabv3_mobilenet_v2", num_classes=3, width=0.35).train(train)


def warned(call: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return [str(each.message) for each in found if issubclass(each.category, SegmnWarning)]


@pytest.mark.parametrize("pixels", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("build", [small, lambda: create_classifier("mobilenet_v2", num_classes=3, width=0.35).eval()])
def test_pixels_of_another_range_give_one_warning(build: Callable[[], nn.Module], pixels: Tensor) -> None:
    network = build()
    (message,) = warned(lambda: [network(pixels) for _ in range(3)])
    assert "takes RGB in 0..255" in message


@pytest.mark.parametrize(
    "pixels",
    [RIGHT, RIGHT.byte(), RIGHT.round(), torch.zeros(1, 3, 17, 17), torch.ones(1, 3, 17, 17), 1.5 * RIGHT - 64],
    ids=["floats", "bytes", "whole", "black", "nearly black", "resampled"],
)
def test_pixels_of_the_right_range_give_no_warning(pixels: Tensor) -> None:
    network = small()
    assert warned(lambda: network(pixels)) == []
    assert len(warned(lambda: network(WRONG["0..1"]))) == 1


def test_a_detector_takes_pixels_up_to_1() -> None:
    for pixels, count in ((WRONG["0..1"][0], 0), (RIGHT[0], 1), (WRONG["-1..1"][0], 1)):
        assert len(warned(lambda pixels=pixels: check_range(nn.Identity().eval(), pixels, 1))) == count  # type: ignore[misc]


def test_training_and_later_calls_check_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small()
    for _ in range(CHECKS):
        network(RIGHT)
    assert getattr(network, CHECKS_LEFT) == 0
    looked: list[int] = []
    monkeypatch.setattr(Tensor, "aminmax", lambda self: looked.append(1))
    network(WRONG["0..1"])
    small(train=True)(WRONG["0..1"].repeat(2, 1, 1, 1))
    assert looked == []


def test_exports_and_tensors_without_values_are_not_checked() -> None:
    pixels = WRONG["0..1"]
    network = small()
    with torch.no_grad():
        assert warned(lambda: torch.export.export(network, (pixels,))) == []
        torch.func.vmap(network)(pixels[None])
        with torch.device("meta"):
            small()(torch.empty(1, 3, 33, 33))
    assert getattr(network, CHECKS_LEFT, CHECKS) == CHECKS


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiled_and_traced_code_does_not_contain_the_check() -> None:
    network = nn.Identity().eval()

    def double(pixels: Tensor) -> Tensor:
        check_range(network, pixels, 255)
        return 2 * pixels

    compiled = torch.compile(double, backend="eager", fullgraph=True)
    assert warned(lambda: compiled(WRONG["0..1"])) == []
    traced = torch.jit.trace(double, WRONG["0..1"], check_trace=False)
    assert warned(lambda: traced(WRONG["0..1"])) == []
    assert "aminmax" not in str(traced.graph)
    assert getattr(network, CHECKS_LEFT, CHECKS) == CHECKS
