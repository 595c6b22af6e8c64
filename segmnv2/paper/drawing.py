"""Style and writing of figures: one plain style, with large text and series that differ without color."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from segmnv2.errors import ConfigError
from segmnv2.files.atomic import atomic_path, check_writable

SUFFIXES = (".png", ".svg")
DPI = 200
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Blue, vermilion, green, purple, orange, sky. Source: Okabe and Ito's colors, distinct to color-blind people."""
MARKERS = ("o", "s", "^", "D", "v", "P")
"""One for each color, so that series differ in gray print too."""
INK = "#222222"
GRAY = "#6B6B6B"
LIGHT = "#DDDDDD"
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 16, 13, 10


def new_figure(title: str, source: str, *, width: float = 10.0, height: float = 6.0) -> Figure:
    """Return an empty figure with its title above and its source below.

    Args:
        title: title of the figure, in one line.
        source: note in small letters: which values are computed and which are published.
        width: width in inches.
        height: height in inches.
    """
    # pyplot would keep every figure in a global list, and it needs the backend of a display.
    layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08, hspace=0.04)
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")
    figure.suptitle(title, x=0.01, ha="left", fontsize=TITLE_SIZE, fontweight="bold", color=INK)
    figure.supxlabel(source, x=0.01, ha="left", fontsize=SMALL_SIZE, color=GRAY)
    return figure


def style_axes(axes: Axes, *, x_label: str = "", y_label: str = "") -> None:
    """Apply the common style: a light grid in the background, no box, and text of a readable size."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(GRAY)
    axes.tick_params(which="both", labelsize=TEXT_SIZE, color=GRAY, labelcolor=INK)
    axes.set_xlabel(x_label, fontsize=TEXT_SIZE, color=INK)
    axes.set_ylabel(y_label, fontsize=TEXT_SIZE, color=INK)
    axes.set_axisbelow(True)
    axes.grid(visible=True, which="major", color=LIGHT, linewidth=0.8)


def check_figure_path(path: str | Path) -> Path:
    """Return the path if a figure can be written there; call this before the work whose result it shows.

    Raises:
        ConfigError: the suffix is not ``.png`` or ``.svg``, or the path cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        found = f"suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise ConfigError(f"{path}: has {found}; give a name that ends in {' or '.join(SUFFIXES)}")
    return check_writable(path)


def save_figure(path: str | Path, figure: Figure) -> Path:
    """Write a figure, whole or not at all, and return its path; the same figure gives the same bytes.

    Args:
        path: file that ends in ``.png`` (200 dots per inch) or ``.svg``; missing folders are created.
        figure: the figure.

    Raises:
        ConfigError: the suffix is another one, or the path cannot be written.
    """
    path = check_figure_path(path)
    kind = path.suffix.lower().removeprefix(".")
    # By default matplotlib also writes the date, its version and random identifiers.
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    content = BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "segmnv2", "svg.fonttype": "path"}):
        figure.savefig(content, format=kind, dpi=DPI, metadata=metadata)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())
    return path
