"""Overlays: an image under the colors of its classes, with outlines and a legend; and the confidence as gray.

The legend shows names and shares of the classes, in a font that has their letters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from math import ceil
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from segmnv2.errors import ConfigError
from segmnv2.labels import VOID_COLOR, Color, LabelSet

DEFAULT_OPACITY = 0.6


def color_table(labels: LabelSet) -> UInt8[np.ndarray, "256 3"]:
    """Return the RGB color, 0..255, of every 8-bit id."""
    table = np.empty((256, 3), dtype=np.uint8)
    table[:] = labels.void_color or VOID_COLOR
    table[: labels.num_classes] = labels.palette
    return table


def colorize(mask: UInt8[np.ndarray, "h w"], labels: LabelSet) -> UInt8[np.ndarray, "h w 3"]:
    """Return the mask in its classes' colors, RGB 0..255; ids without a class in the color of void."""
    return np.take(color_table(labels), mask, axis=0)


def check_opacity(opacity: float) -> float:
    """Return ``opacity`` if it is in 0..1, else raise a ConfigError."""
    if not 0 <= opacity <= 1:
        raise ConfigError(f"opacity: {opacity!r} is not in 0..1; give 0 for outlines only, 1 for plain colors")
    return opacity


def is_background(labels: LabelSet, index: int) -> bool:
    """Return whether a class is the background, by its name."""
    return index < labels.num_classes and labels.names[index].lower() == "background"


def blend(
    image: UInt8[np.ndarray, "h w 3"],
    mask: UInt8[np.ndarray, "h w"],
    labels: LabelSet,
    opacity: float = DEFAULT_OPACITY,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw the classes' colors over an RGB image, with a thin outline in the full color around each region.

    A class named "background" leaves the image unchanged; ids without a class are drawn in the color of void. Opacity
    0 shows outlines only, 1 plain colors.
    """
    check_opacity(opacity)
    colors = color_table(labels)
    outlined = np.ones(256, dtype=bool)
    image = np.ascontiguousarray(image)
    result = image.copy()
    groups = np.minimum(mask, labels.num_classes)  # all ids without a class look alike
    for index in np.flatnonzero(cv2.calcHist([groups], [0], None, [256], [0, 256])):
        if is_background(labels, int(index)):
            outlined[index] = False
            continue
        tinted = cv2.LUT(image, _tint_table(colors[index], opacity))
        cv2.copyTo(tinted, (groups == index).astype(np.uint8), result)
    lines = np.flatnonzero(outlines(mask))
    ids = mask.ravel()[lines]
    shown = outlined[ids]
    result.reshape(-1, 3)[lines[shown]] = colors[ids[shown]] // 2 + 127
    return result


def _tint_table(color: UInt8[np.ndarray, "3"], opacity: float) -> UInt8[np.ndarray, "256 1 3"]:
    """Return the blend of a color with each value 0..255 of each channel."""
    strength = np.float32(opacity)
    values = np.arange(256, dtype=np.float32)[:, None, None]
    return np.rint(values * (1 - strength) + color * strength).astype(np.uint8)


def outlines(mask: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the pixels near another class: 1 pixel wide, plus 1 for each 500 pixels of the mean side."""
    depth = 1 + int((mask.shape[0] * mask.shape[1]) ** 0.5 // 500)
    kernel = np.ones((2 * depth + 1, 2 * depth + 1), dtype=np.uint8)
    return np.asarray(cv2.dilate(mask, kernel) != cv2.erode(mask, kernel), dtype=bool)


def overlay_image(
    image: UInt8[np.ndarray, "h w 3"],
    mask: UInt8[np.ndarray, "h w"],
    labels: LabelSet,
    opacity: float = DEFAULT_OPACITY,
    legend: bool = True,
) -> Image.Image:
    """Return the blended image as RGB, with a legend beside it (never on it) if requested."""
    overlay = Image.fromarray(blend(image, mask, labels, opacity))
    return add_legend(overlay, legend_entries(mask, labels)) if legend else overlay


def legend_entries(mask: UInt8[np.ndarray, "h w"], labels: LabelSet) -> list[tuple[str, Color | None, float]]:
    """Return (name, color, share 0..1 of the pixels) of the classes in the mask, largest share first.

    A name that no font can write is ``class ID (no font)``. A background has no color, as it has none in the overlay;
    all ids without a class are one entry, "void".
    """
    counts = np.bincount(mask.ravel(), minlength=256)
    entries: list[tuple[str, Color | None, float]] = [
        (name, None if is_background(labels, index) else color, int(counts[index]) / mask.size)
        for index, (name, color) in enumerate(zip(writable_names(labels.names), labels.palette, strict=True))
        if counts[index]
    ]
    void = int(counts[labels.num_classes :].sum())
    if void:
        entries.append(("void", labels.void_color or VOID_COLOR, void / mask.size))
    return sorted(entries, key=lambda entry: -entry[2])


def confidence_image(confidence: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return confidence 0..1 as gray 0..255, rounded."""
    return np.asarray(np.rint(confidence * 255), dtype=np.uint8)


FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.fonts",
    "~/.local/share/fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
    "C:/Windows/Fonts",
)
"""Folders of installed fonts, for letters that matplotlib's DejaVu Sans lacks, such as Chinese."""

_ENDINGS = (".ttf", ".ttc", ".otf")


def find_font(texts: Iterable[str]) -> str:
    """Return the file of the font that can write the most of the texts: DejaVu Sans, or an installed one."""
    return _choose_font(tuple(texts))[0]


def writable_names(names: Sequence[str]) -> list[str]:
    """Return class names; one that the font of :func:`find_font` cannot write becomes ``class ID (no font)``."""
    missing = _choose_font(tuple(names))[1]
    return [f"class {index} (no font)" if name in missing else name for index, name in enumerate(names)]


@lru_cache(maxsize=256)
def _choose_font(texts: tuple[str, ...]) -> tuple[str, frozenset[str]]:
    best, missing = "", frozenset(texts)
    for path in _fonts():
        unwritable = _unwritable(path, texts)
        if not best or len(unwritable) < len(missing):
            best, missing = path, unwritable
        if not missing:
            break
    return best, missing


def _fonts() -> Iterator[str]:
    matplotlib = find_spec("matplotlib")
    assert matplotlib is not None, "matplotlib is a dependency"
    assert matplotlib.origin is not None
    yield str(Path(matplotlib.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf")
    for folder in FOLDERS:
        for path in sorted(Path(folder).expanduser().rglob("*")):
            if path.suffix.lower() in _ENDINGS:
                yield str(path)


def _unwritable(path: str, texts: tuple[str, ...]) -> frozenset[str]:
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
    """Layout of a legend's entries; all lengths are in pixels."""

    font: ImageFont.FreeTypeFont | ImageFont.ImageFont  # of the texts
    letter: int  # height of the font, from which all other lengths come
    cell_width: int  # width of an entry with its spacing
    columns: int  # number of columns
    rows: int  # number of rows
    below: bool  # whether the strip is below the image and filled by rows; otherwise right and by columns

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


def add_legend(image: Image.Image, entries: Sequence[Entry]) -> Image.Image:
    """Return an RGB image with a legend strip; the image itself stays in the upper left corner, pixel for pixel.

    Args:
        image: RGB.
        entries: (name, color or None for an empty box, share 0..1), in the order to be shown.
    """
    texts = [f"{_short(name)}  {share_text(share)}" for name, _, share in entries]
    strip = _lay_out(image.size, texts)
    (width, height), (strip_width, strip_height) = image.size, strip.size
    if strip.below:
        whole, corner = (max(width, strip_width), height + strip_height), (0, height)
    else:
        whole, corner = (width + strip_width, max(height, strip_height)), (width, 0)
    result = Image.new("RGB", whole, PAPER)
    result.paste(image, (0, 0))
    draw = ImageDraw.Draw(result)
    for number, (text, (_, color, _)) in enumerate(zip(texts, entries, strict=True)):
        left, top = strip.place(number)
        _draw_entry(draw, (corner[0] + left, corner[1] + top), strip, text, color)
    return result


def share_text(share: float) -> str:
    """Return a share 0..1 in percent, short; a share above 0 is never shown as 0."""
    if share < 0.001:
        return "<0.1%"
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def cell_height(letter: int) -> int:
    """Return the height of an entry with its spacing, for letters of that height."""
    return round(letter * 1.6)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _lay_out(size: tuple[int, int], texts: Sequence[str]) -> Strip:
    """Choose the side of the image, a font that grows with it, and as many columns or rows as fit along the side."""
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
