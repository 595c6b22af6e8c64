"""The legend of overlays: names and shares of the classes, in a font that has their letters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from math import ceil
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from segmnv2.labels import Color

FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.fonts",
    "~/.local/share/fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
    "C:/Windows/Fonts",
)
"""Folders of installed fonts, if matplotlib's DejaVu Sans lacks a letter (it has no Chinese, for example)."""

_ENDINGS = (".ttf", ".ttc", ".otf")


def find_font(texts: Iterable[str]) -> str:
    """Return the file of the font that can write the most of the texts: DejaVu Sans, or an installed one."""
    return _choose(tuple(texts))[0]


def writable_names(names: Sequence[str]) -> list[str]:
    """Return class names, those replaced by ``class ID (no font)`` that :func:`find_font`'s font has no letters for."""
    missing = _choose(tuple(names))[1]
    return [f"class {index} (no font)" if name in missing else name for index, name in enumerate(names)]


@lru_cache(maxsize=256)
def _choose(texts: tuple[str, ...]) -> tuple[str, frozenset[str]]:
    best, missing = "", frozenset(texts)
    for path in _fonts():
        unwritten = _unwritten(path, texts)
        if not best or len(unwritten) < len(missing):
            best, missing = path, unwritten
        if not missing:
            break
    return best, missing


def _fonts() -> Iterator[str]:
    matplotlib = find_spec("matplotlib")
    assert matplotlib is not None, "a dependency"
    assert matplotlib.origin is not None
    yield str(Path(matplotlib.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf")
    for folder in FOLDERS:
        for path in sorted(Path(folder).expanduser().rglob("*")):
            if path.suffix.lower() in _ENDINGS:
                yield str(path)


def _unwritten(path: str, texts: tuple[str, ...]) -> frozenset[str]:
    """Return the texts with letters that a font lacks; all of them if it cannot be read."""
    others = {text: {ord(letter) for letter in text if not letter.isascii()} for text in texts}
    if not any(others.values()):
        return frozenset()
    letters = _letters(path)
    return frozenset(text for text, wanted in others.items() if not wanted <= letters)


@lru_cache(maxsize=1024)
def _letters(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font  # slow to import, and names are mostly ASCII

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


Entry = tuple[str, Color | None, float]

SMALLEST_FONT = 11
LARGEST_FONT = 160
LONGEST_NAME = 32
PAPER: Color = (255, 255, 255)
INK: Color = (32, 32, 32)
FRAME: Color = (150, 150, 150)


@dataclass(frozen=True)
class Strip:
    """Layout of a legend's entries; all lengths are in pixels.

    Attributes:
        font: of the texts.
        letter: height of the font, from which all other lengths come.
        cell_width: width of an entry with its spacing.
        columns: number of columns.
        rows: number of rows.
        below: whether the strip lies below the image and is filled row by row, rather than right and by columns.
    """

    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    letter: int
    cell_width: int
    columns: int
    rows: int
    below: bool

    @property
    def margin(self) -> int:
        """Space around all entries."""
        return round(self.letter * 0.6)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the strip."""
        height = self.rows * cell_height(self.letter)
        return self.columns * self.cell_width + 2 * self.margin, height + 2 * self.margin

    def place(self, number: int) -> tuple[int, int]:
        """Return (left, top) of an entry within the strip."""
        column, row = (
            (number % self.columns, number // self.columns) if self.below else (number // self.rows, number % self.rows)
        )
        return self.margin + column * self.cell_width, self.margin + row * cell_height(self.letter)


def add_legend(picture: Image.Image, entries: Sequence[Entry]) -> Image.Image:
    """Return the image with a legend strip; the image itself stays in the upper left corner, pixel for pixel.

    Args:
        picture: RGB.
        entries: (name, color or None for an empty box, share 0..1), in the order to be shown.
    """
    texts = [f"{_short(name)}  {share_text(share)}" for name, _, share in entries]
    strip = _lay_out(picture.size, texts)
    (width, height), (strip_width, strip_height) = picture.size, strip.size
    if strip.below:
        whole, corner = (max(width, strip_width), height + strip_height), (0, height)
    else:
        whole, corner = (width + strip_width, max(height, strip_height)), (width, 0)
    result = Image.new("RGB", whole, PAPER)
    result.paste(picture, (0, 0))
    draw = ImageDraw.Draw(result)
    for number, (text, (_, color, _)) in enumerate(zip(texts, entries, strict=True)):
        left, top = strip.place(number)
        _draw_entry(draw, (corner[0] + left, corner[1] + top), strip, text, color)
    return result


def share_text(share: float) -> str:
    """Return a share 0..1 in percent, short; what is present never reads 0."""
    if share < 0.001:
        return "<0.1%"
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def cell_height(letter: int) -> int:
    """Return the height of an entry with its spacing, for letters of that height."""
    return round(letter * 1.6)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _lay_out(size: tuple[int, int], texts: Sequence[str]) -> Strip:
    """Choose the side, a font that grows with the image, and as many columns or rows as the image's side holds."""
    width, height = size
    letter = round(min(max((width * height) ** 0.5 / 28, SMALLEST_FONT), LARGEST_FONT))
    font = ImageFont.truetype(find_font(texts), letter)
    cell_width = ceil(max(font.getlength(text) for text in texts) + 2.4 * letter)
    below = width > height
    room = width // cell_width if below else height // cell_height(letter)
    inner = max(1, min(len(texts), room))
    outer = ceil(len(texts) / inner)
    columns, rows = (inner, outer) if below else (outer, inner)
    return Strip(font, letter, cell_width, columns, rows, below)


def _draw_entry(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], strip: Strip, text: str, color: Color | None
) -> None:
    left, top = corner
    letter = strip.letter
    middle = top + cell_height(letter) / 2
    box = (left, round(middle - letter / 2), left + letter, round(middle + letter / 2))
    draw.rectangle(box, fill=color or PAPER, outline=FRAME, width=max(1, letter // 14))
    draw.text((left + 1.5 * letter, middle), text, fill=INK, font=strip.font, anchor="lm")
