from __future__ import annotations

import pytest
import torch

from segmnv2.nn.resize import resize_bilinear, scaled_side


def test_corners_stay_corners_and_samples_lie_on_the_stride() -> None:
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    big = resize_bilinear(x, (4 * 8 + 1, 3 * 8 + 1))
    torch.testing.assert_close(big[..., ::8, ::8], x)


def test_same_size_is_the_identity() -> None:
    x = torch.randn(1, 2, 6, 7)
    assert resize_bilinear(x, (6, 7)) is x


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3)])
def test_a_single_sample_fills_any_size(size: tuple[int, int]) -> None:
    out = resize_bilinear(torch.tensor([[[[3.0]], [[-1.0]]]]), size)
    assert out.shape == (1, 2, *size)
    assert torch.equal(out[0, 0], torch.full(size, 3.0))


def test_a_linear_ramp_stays_linear() -> None:
    ramp = torch.linspace(0, 1, 9, dtype=torch.float64).expand(1, 1, 3, 9)
    expected = torch.linspace(0, 1, 33, dtype=torch.float64)
    torch.testing.assert_close(resize_bilinear(ramp, (7, 33))[0, 0, 4], expected)


def test_scaled_sides_are_those_of_the_paper() -> None:
    assert [scaled_side(513, s) for s in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)] == [257, 385, 513, 641, 769, 897]
