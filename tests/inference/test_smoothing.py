from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from segmnv2.errors import ConfigError
from segmnv2.inference.predictor import Predictor
from segmnv2.inference.scores import Scores, predict_scores
from segmnv2.inference.video_files import Smoother, is_cut, shrink


def grids(scores: Scores) -> list[np.ndarray]:
    return [each.grid.numpy() for each in scores.passes]


@pytest.fixture
def frames(photo) -> list[np.ndarray]:
    """Return frames of a scene with flickering noise."""
    generator = np.random.default_rng(0)
    scene = photo(50, 61).astype(float)
    return [(scene + generator.normal(0, 25, scene.shape)).clip(0, 255).astype(np.uint8) for _ in range(12)]


def test_a_share_of_0_changes_nothing(small_model, frames):
    smoother = Smoother(0)
    for frame in frames[:3]:
        scores = predict_scores(small_model, frame, size=65, flip=True)
        for grid, same in zip(grids(scores), grids(smoother(frame, scores)), strict=True):
            assert np.array_equal(grid, same)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_still_video_does_not_change_in_any_bit(share, small_model, photo):
    smoother, frame = Smoother(share), photo(50, 61)
    scores = predict_scores(small_model, frame, size=65)
    for _ in range(5):
        smoothed = smoother(frame, scores)
        assert np.array_equal(grids(scores)[0], grids(smoothed)[0])
        assert np.array_equal(scores.labels(), smoothed.labels())


def test_smoothing_is_the_exponential_moving_average_of_logits(small_model, frames):
    smoother = Smoother(0.75)
    average: np.ndarray | None = None
    for frame in frames[:5]:
        scores = predict_scores(small_model, frame, size=65)
        (grid,) = grids(scores)
        average = grid if average is None else 0.25 * grid + 0.75 * average
        np.testing.assert_allclose(grids(smoother(frame, scores))[0], average, rtol=1e-5, atol=1e-5)


def test_a_larger_share_reduces_flicker_more(small_model, frames):
    predictor = Predictor(small_model, size=65)

    def flicker(share: float) -> float:
        smoother = Smoother(share)
        masks = [predictor.predict([predictor.prepare(frame)], smoother)[0].mask for frame in frames]
        return float(np.mean([one != other for one, other in pairwise(masks[4:])]))

    none, half, most = flicker(0), flicker(0.5), flicker(0.9)
    assert none > 0, "the test needs flicker"
    assert most < half < none
    assert most < none / 2


@pytest.mark.parametrize("later", ["another size", "a scene cut"])
def test_smoothing_restarts_with(later, small_model, photo):
    smoother = Smoother(0.9)
    dark, bright = np.full((50, 61, 3), 20, np.uint8), np.full((50, 61, 3), 220, np.uint8)
    other = np.full((90, 61, 3), 20, np.uint8) if later == "another size" else bright
    smoother(dark, predict_scores(small_model, dark, size="native"))
    scores = predict_scores(small_model, other, size="native")
    assert np.array_equal(grids(smoother(other, scores))[0], grids(scores)[0])


def test_a_new_scene_is_a_cut_and_a_moving_object_is_not(photo):
    scene = photo(240, 320)
    moved = scene.copy()
    moved[60:140, 100:180] = 255
    assert not is_cut(shrink(scene), shrink(moved))
    assert not is_cut(shrink(scene), shrink(np.roll(scene, 8, axis=1)))
    assert is_cut(shrink(scene), shrink(photo(240, 320, seed=5)))


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, float("nan")])
def test_a_share_is_at_least_0_and_below_1(share):
    with pytest.raises(ConfigError, match=r"smooth: .* is not in 0\.\.1"):
        Smoother(share)


def test_the_scores_of_a_frame_do_not_change_later(small_model, photo):
    """The scores of a frame stay unchanged after the next frame."""
    smoother, frame = Smoother(0.5), photo(50, 61)
    first = smoother(frame, predict_scores(small_model, frame, size=65))
    kept = first.passes[0].grid.clone()
    other = np.roll(frame, 3, axis=1)
    smoother(other, predict_scores(small_model, other, size=65))
    assert torch.equal(first.passes[0].grid, kept)
