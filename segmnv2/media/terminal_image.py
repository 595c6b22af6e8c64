"""Images in a terminal: by the protocols of kitty and iTerm2, or as colored half blocks."""

from __future__ import annotations

import base64
import os
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from rich.color import Color
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style

from segmnv2.files.atomic import encode_image

LONGEST_SIDE = 800
"""Largest side of an image that is sent to a terminal, in pixels."""

KITTY_CHUNK = 4096
ITERM_PROGRAMS = ("iTerm.app", "WezTerm", "vscode", "mintty")
HALF_BLOCK = "▀"


def show_image(path: str | Path) -> None:
    """Print an image file to standard output, by the finest of the three ways that the terminal supports.

    An image that Pillow does not open, because it is removed or has more than 179 million pixels, is a note instead.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                image = file.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        print(f"note: {path}: cannot be shown in the terminal ({error})", file=sys.stderr)
        return
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    if os.environ.get("KITTY_WINDOW_ID") or os.environ.get("TERM_PROGRAM") == "ghostty":
        sys.stdout.write(kitty_text(image))
    elif os.environ.get("TERM_PROGRAM") in ITERM_PROGRAMS:
        sys.stdout.write(iterm_text(image))
    else:
        console = Console(file=sys.stdout)
        console.print(half_blocks(image, console.width, console.height))
    sys.stdout.flush()


def kitty_text(image: Image.Image) -> str:
    """Return kitty's escape sequences for an image, in chunks of 4096 characters.

    Source: https://sw.kovidgoyal.net/kitty/graphics-protocol/
    """
    data = base64.standard_b64encode(encode_image(image, "PNG")).decode("ascii")
    chunks = [data[start : start + KITTY_CHUNK] for start in range(0, len(data), KITTY_CHUNK)]
    heads = ["a=T,f=100," if number == 0 else "" for number in range(len(chunks))]
    more = [int(number < len(chunks) - 1) for number in range(len(chunks))]
    parts = [f"\x1b_G{head}m={m};{chunk}\x1b\\" for head, m, chunk in zip(heads, more, chunks, strict=True)]
    return "".join(parts) + "\n"


def iterm_text(image: Image.Image) -> str:
    """Return iTerm2's escape sequence for an image.

    Source: https://iterm2.com/documentation-images.html
    """
    png = encode_image(image, "PNG")
    return f"\x1b]1337;File=inline=1;size={len(png)}:{base64.standard_b64encode(png).decode('ascii')}\x07\n"


def half_blocks(image: Image.Image, columns: int, rows: int) -> Segments:
    """Return an image as colored half blocks, two pixels a character, within a number of columns and rows."""
    small = image.copy()
    small.thumbnail((max(1, columns), max(2, 2 * (rows - 2))))
    pixels = np.asarray(small)
    height, width = pixels.shape[:2]
    segments = []
    for top in range(0, height, 2):
        for x in range(width):
            upper, lower = pixels[top, x], pixels[min(top + 1, height - 1), x]
            style = Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower))
            segments.append(Segment(HALF_BLOCK, style))
        segments.append(Segment.line())
    return Segments(segments)
