from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from segmnv2.detection.box_predictor import captions
from segmnv2.inference import overlay as fonts
from segmnv2.inference.overlay import add_legend, legend_entries
from segmnv2.labels import LabelSet

RARE = "\U0001347f"  # a hieroglyph that hardly any font has


def legend(name: str) -> bytes:
    return add_legend(Image.new("RGB", (200, 100)), [(name, (250, 0, 10), 1.0)]).tobytes()


@pytest.mark.parametrize("name", ["Straße", "дорога", "δρόμος", "łąka", "naïve"])
def test_each_letter_has_a_glyph(name: str) -> None:
    font = ImageFont.truetype(fonts.find_font([name]), 20)
    box = bytes(font.getmask(RARE))
    assert all(bytes(font.getmask(letter)) != box for letter in name)
    assert legend(name) != legend(RARE * len(name))
    assert fonts.writable_names(["road", name]) == ["road", name]


@pytest.fixture
def no_installed_fonts(monkeypatch: pytest.MonkeyPatch):
    fonts._choose_font.cache_clear()
    monkeypatch.setattr(fonts, "FOLDERS", ())
    yield
    fonts._choose_font.cache_clear()


@pytest.mark.usefixtures("no_installed_fonts")
def test_a_name_that_no_font_can_write_becomes_its_id() -> None:
    labels = LabelSet.from_dict({"names": ["road", RARE, "sky"]})
    entries = legend_entries(np.array([[0, 1], [1, 1]], np.uint8), labels)
    assert [name for name, _, _ in entries] == ["class 1 (no font)", "road"]
    assert captions([7, 3], [0.5, 0.9], {7: "cat", 3: RARE}) == ["cat 50%", "3 90%"]


@pytest.mark.usefixtures("no_installed_fonts")
def test_installed_fonts_are_searched_and_damaged_ones_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.ttf").write_bytes(b"no font")
    (tmp_path / "b.ttf").write_bytes(b"another")
    monkeypatch.setattr(fonts, "FOLDERS", (str(tmp_path),))
    assert fonts.find_font([RARE]).endswith("DejaVuSans.ttf")
    letters = fonts._letters
    monkeypatch.setattr(fonts, "_letters", lambda path: {ord(RARE)} if path.endswith("b.ttf") else letters(path))
    fonts._choose_font.cache_clear()
    assert fonts.find_font([RARE]) == str(tmp_path / "b.ttf")
