from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from segmnv2.inference.overlay import PAPER, add_legend, share_text

SIZES = [(1, 1), (3, 5000), (5000, 3), (60, 40), (500, 333), (333, 500), (1600, 1200)]
RED, BLUE = (250, 0, 10), (10, 0, 250)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("count", [1, 2, 21, 150])
def test_a_legend_does_not_cover_the_image_and_shows_every_color(size, count):
    picture = Image.new("RGB", size, (77, 77, 77))
    colors = [(200, 30 + number, 40) for number in range(count)]
    whole = add_legend(picture, [(f"class {number}", color, 1 / count) for number, color in enumerate(colors)])
    assert whole.crop((0, 0, *size)).tobytes() == picture.tobytes()
    pixels = np.asarray(whole)
    for color in (colors[0], colors[-1]):
        assert (pixels == color).all(-1).sum() >= 50, f"no box of {color}"


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_texts_stay_inside_and_apart(size):
    entries = [("a rather long name", RED, 0.6), ("another one", BLUE, 0.4)]
    whole = np.asarray(add_legend(Image.new("RGB", size, PAPER), entries))
    assert (whole[-1] == PAPER).all()
    assert (whole[:, -1] == PAPER).all()


@pytest.mark.parametrize(("size", "below"), [((400, 300), True), ((300, 400), False), ((300, 300), False)])
def test_a_legend_makes_the_image_more_square(size, below):
    whole = add_legend(Image.new("RGB", size), [("cat", RED, 1.0)])
    assert (whole.height > size[1], whole.width > size[0]) == (below, not below)


def test_a_legend_grows_with_the_image():
    small, large = (
        (np.asarray(add_legend(Image.new("RGB", size), [("cat", RED, 1.0)])) == RED).all(-1).sum()
        for size in ((300, 200), (3000, 2000))
    )
    assert large > 20 * small


def test_a_very_long_name_is_shortened():
    wide = add_legend(Image.new("RGB", (300, 200)), [("x" * 500, RED, 1.0)])
    assert wide.width < 600


@pytest.mark.parametrize(
    ("share", "text"), [(1, "100%"), (0.123, "12%"), (0.05, "5.0%"), (0.001, "0.1%"), (1e-7, "<0.1%")]
)
def test_shares_are_short_and_never_shown_as_zero(share, text):
    assert share_text(share) == text
