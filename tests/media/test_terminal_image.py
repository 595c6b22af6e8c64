from __future__ import annotations

import base64
import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from segmnv2.media.terminal_image import HALF_BLOCK, half_blocks, iterm_text, kitty_text, show_image


@pytest.fixture
def image() -> Image.Image:
    """Return an image whose PNG takes several of kitty's chunks."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))


def decode(text: str) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(base64.standard_b64decode(text))))


def test_kitty_gets_the_image_in_chunks(image):
    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", kitty_text(image))
    assert len(chunks) > 2
    assert [head for head, _ in chunks] == ["a=T,f=100,m=1", *["m=1"] * (len(chunks) - 2), "m=0"]
    assert max(len(data) for _, data in chunks) <= 4096
    assert np.array_equal(decode("".join(data for _, data in chunks)), np.asarray(image))


def test_iterm_gets_the_image_whole(image):
    found = re.fullmatch(r"\x1b]1337;File=inline=1;size=(\d+):([^\x07]*)\x07\n", iterm_text(image))
    assert found is not None
    assert len(base64.standard_b64decode(found[2])) == int(found[1])
    assert np.array_equal(decode(found[2]), np.asarray(image))


def test_half_blocks_are_two_pixels_each():
    pixels = np.array([[[255, 0, 0]], [[0, 255, 0]], [[0, 0, 255]]], dtype=np.uint8)
    block, _, last, _ = half_blocks(Image.fromarray(pixels), 10, 10).segments
    assert block.text == last.text == HALF_BLOCK
    assert (block.style.color.triplet, block.style.bgcolor.triplet) == ((255, 0, 0), (0, 255, 0))
    assert last.style.color.triplet == last.style.bgcolor.triplet == (0, 0, 255)


def test_half_blocks_fit_the_terminal(image):
    lines = "".join(segment.text for segment in half_blocks(image, 40, 12).segments).splitlines()
    assert max(map(len, lines)) <= 40
    assert len(lines) <= 10


@pytest.mark.parametrize(
    ("variables", "start"),
    [({"KITTY_WINDOW_ID": "1"}, "\x1b_G"), ({"TERM_PROGRAM": "iTerm.app"}, "\x1b]1337"), ({}, HALF_BLOCK)],
)
def test_the_terminal_decides(variables, start, image, tmp_path, monkeypatch, capsys):
    for name in ("KITTY_WINDOW_ID", "TERM_PROGRAM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    image.save(tmp_path / "a.png")
    show_image(tmp_path / "a.png")
    assert capsys.readouterr().out.startswith(start)


def test_an_image_that_cannot_be_opened_is_a_note(image, tmp_path, monkeypatch, capsys):
    for name in ("KITTY_WINDOW_ID", "TERM_PROGRAM"):
        monkeypatch.delenv(name, raising=False)
    image.save(tmp_path / "a.png")
    show_image(tmp_path / "removed.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)  # 4800 pixels are a warning of Pillow
    show_image(tmp_path / "a.png")
    assert capsys.readouterr().out.count(HALF_BLOCK) > 10
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    show_image(tmp_path / "a.png")
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"note: {tmp_path / 'a.png'}: cannot be shown in the terminal (")
