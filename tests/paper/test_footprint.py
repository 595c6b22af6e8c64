from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from segmnv2.inference import scores
from segmnv2.models.cost import count_parameters, trace_multi_scale_madds
from segmnv2.models.zoo import create_model
from segmnv2.paper import footprint
from segmnv2.paper.choice import SCALE_SETS, Choice, list_choices
from segmnv2.paper.footprint import MOST_RUNS, Latencies, Stopwatch, cost, pass_sides


@pytest.mark.parametrize(
    "choice",
    [
        Choice("mobilenet_v2", 0.35, 8, True, 129),
        Choice("mobilenet_v2", 1.4, 32, False, 193, SCALE_SETS[-1], flip=True),  # strides 16 and 32 pad scaled sides
        Choice("mobilenet_v2", 0.75, 16, True, 257, SCALE_SETS[1]),
        Choice("mobilenet_v2", 1.0, 8, False, 513, flip=True),
        Choice("mobilenet_v1", 0.5, 8, True, 193, SCALE_SETS[2], flip=True),
        Choice("mobilenet_v1", 1.0, 32, True, 65, SCALE_SETS[-1]),
    ],
    ids=str,
)
def test_costs_equal_the_sum_of_traced_passes(choice: Choice) -> None:
    with torch.device("meta"):
        model = create_model(choice.model, width=choice.width, output_stride=choice.output_stride)
    found, size = cost(choice), (choice.size, choice.size)
    assert found.params == count_parameters(model)
    expected = trace_multi_scale_madds(model, choice.scales, flip=choice.flip, size=size)
    assert (found.madds, found.madds_paper) == (expected.plain, expected.paper)


def test_a_better_choice_at_one_output_stride_needs_more_multiply_adds() -> None:
    choices = [c for c in list_choices(widths=[0.35, 0.5], sizes=[129, 257]) if c.output_stride == 16]
    for one in choices:
        for other in choices:
            if one != other and one.at_least(other):
                assert cost(one).madds > cost(other).madds


def test_passes_are_the_scaled_canvas_and_its_mirror() -> None:
    choice = Choice("mobilenet_v2", 1.0, 16, False, 513, (0.5, 1.0), flip=True)
    assert list(pass_sides(choice)) == [257, 257, 513, 513]
    assert choice.passes == 4


CHOICE = Choice("mobilenet_v2", 0.35, 32, False, 65, (0.75, 1.0, 1.25), flip=True)


def test_the_stopwatch_times_the_inference_of_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    calls = []

    def predict(model: Any, image: Any, **arguments: Any) -> Any:
        calls.append((model.output_stride, model.training, image.shape, arguments))
        now[0] += 5.0 if len(calls) == 1 else 0.02  # the first call is slow, as if libraries chose algorithms
        return scores.predict_labels(model, image, **arguments)

    monkeypatch.setattr(footprint, "predict_labels", predict)
    assert Stopwatch(clock=lambda: now[0])(CHOICE) == pytest.approx(20.0)
    used = {"size": 65, "scales": CHOICE.scales, "flip": True}
    assert calls == [(32, False, (65, 65, 3), used)] * (1 + MOST_RUNS)


def test_long_runs_are_repeated_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    lengths = iter([9.0, 0.1, 0.5, 0.6])

    def predict(*_: Any, **__: Any) -> None:
        now[0] += next(lengths)

    monkeypatch.setattr(footprint, "predict_labels", predict)
    assert Stopwatch(clock=lambda: now[0])(CHOICE) == pytest.approx(500.0)


def test_a_model_is_built_once_for_all_strides(monkeypatch: pytest.MonkeyPatch) -> None:
    strides = []

    def predict(model: Any, *_: Any, **__: Any) -> None:
        strides.append((id(model), model.output_stride))

    monkeypatch.setattr(footprint, "predict_labels", predict)
    measure = Stopwatch(clock=_ticking(1.0))
    for stride in (32, 8):
        measure(Choice("mobilenet_v2", 0.35, stride, False, 65))
    assert len({model for model, _ in strides}) == 1
    assert {stride for _, stride in strides} == {8, 32}


def _ticking(step: float) -> Callable[[], float]:
    ticks = iter(range(10**6))
    return lambda: next(ticks) * step


def test_estimates_keep_measured_times_and_grow_with_the_work() -> None:
    small, medium, large = (Choice("mobilenet_v2", 0.5, 16, False, size) for size in (129, 257, 513))
    latencies = Latencies()
    latencies.measured[small] = 10.0
    first = latencies.estimate([small, medium, large])
    assert first[0] == 10.0 < first[1] < first[2]
    latencies.measured[large] = 77.0
    assert latencies.estimate([large, small]) == [77.0, 10.0]
    assert 10.0 < latencies.estimate([medium])[0] < 77.0
    assert latencies.estimate([]) == []
