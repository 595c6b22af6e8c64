"""The paper's Figure 1: a spiral that is embedded in n dimensions, passed through ReLU, and projected back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from segmnv2.paper.drawing import INK, LIGHT, SMALL_SIZE, TEXT_SIZE, new_figure

Array = NDArray[np.float64]

DIMENSIONS = (2, 3, 5, 15, 30)
"""Source: MobileNetV2, Figure 1."""
SEED = 90
"""The seed, of 0 to 99, whose losses are nearest to the medians."""
POINTS = 500
TURNS = 3
DRAWS = 200
"""Number of random matrices for the medians."""
PLANE = 2
"""Dimensions of the spiral. A point with fewer active units cannot be distinguished from its neighbors."""
COLORS = "viridis"


@dataclass(frozen=True)
class Losses:
    """Losses of the spiral with one matrix, or their medians over many.

    Attributes:
        relative_error: norm of (output - input), divided by the norm of the input.
        unrecovered_variance: share of the input's variance that the best affine map from output to input does not
            recover. Unlike the error, it ignores a change of scale: for large n, ReLU halves the spiral.
        collapsed: share of points with fewer than two positive units. Around these the map sends areas to a line or a
            point.
    """

    relative_error: float
    unrecovered_variance: float
    collapsed: float


@dataclass(frozen=True)
class Panel:
    """One panel of the figure.

    Attributes:
        dimensions: n, the dimensions of the space in which ReLU acts.
        output: the spiral after the round trip, [x, y] per point.
        drawn: losses with the matrix of the plot.
        median: median of each loss over ``Figure1.draws`` matrices. At n = 2 some matrices are nearly singular, so the
            mean error has no meaning.
    """

    dimensions: int
    output: list[list[float]]
    drawn: Losses
    median: Losses


@dataclass(frozen=True)
class Figure1:
    """The figure's content.

    Attributes:
        seed: seed of the random matrices.
        draws: number of matrices behind each median.
        spiral: the input, [x, y] per point, from the center outwards.
        panels: one for each n, in rising order.
    """

    seed: int
    draws: int
    spiral: list[list[float]]
    panels: list[Panel]


def figure1(seed: int = SEED) -> Figure1:
    """Compute Figure 1 with matrices of independent standard normal entries, in 64-bit floats.

    The paper states neither its spiral nor the distribution of its matrices. So its plot cannot be repeated exactly.

    Args:
        seed: seed of the matrices; each n has its own random numbers.
    """
    points = spiral()
    return Figure1(seed=seed, draws=DRAWS, spiral=points.tolist(), panels=[_panel(points, n, seed) for n in DIMENSIONS])


def spiral() -> Array:
    """Return an Archimedean spiral, (points, 2), from the center to radius 1."""
    along = np.arange(1, POINTS + 1) / POINTS  # without the center, where no unit is positive for any matrix
    angle = 2 * np.pi * TURNS * along
    return np.stack([along * np.cos(angle), along * np.sin(angle)], axis=1)


def relu(values: Array) -> Array:
    """Return the values, with zeros in place of negative ones."""
    return np.maximum(values, 0.0)


def round_trip(points: Array, matrix: Array, activation: Callable[[Array], Array] = relu) -> Array:
    """Return ``pinv(T) activation(T x)`` of each point.

    Args:
        points: x, (points, 2).
        matrix: T, (n, 2), of rank 2.
        activation: applied to the n units of each point.
    """
    return activation(points @ matrix.T) @ np.linalg.pinv(matrix).T


def losses(points: Array, matrix: Array) -> Losses:
    """Measure the losses of points (points, 2) on the round trip with a matrix (n, 2)."""
    output = round_trip(points, matrix)
    with_offset = np.column_stack([output, np.ones(len(output))])
    fit = with_offset @ np.linalg.lstsq(with_offset, points, rcond=None)[0]
    centered = points - points.mean(axis=0)
    return Losses(
        relative_error=float(np.linalg.norm(output - points) / np.linalg.norm(points)),
        unrecovered_variance=float(np.sum((points - fit) ** 2) / np.sum(centered**2)),
        collapsed=float(np.mean(np.sum(points @ matrix.T > 0, axis=1) < PLANE)),
    )


def _panel(points: Array, dimensions: int, seed: int) -> Panel:
    matrices = np.random.default_rng([seed, dimensions]).standard_normal((DRAWS, dimensions, PLANE))
    measured = [losses(points, matrix) for matrix in matrices]
    return Panel(
        dimensions=dimensions,
        output=round_trip(points, matrices[0]).tolist(),
        drawn=measured[0],
        median=Losses(**{name: float(np.median([getattr(m, name) for m in measured])) for name in asdict(measured[0])}),
    )


def to_markdown(result: Figure1) -> str:
    """Return a table of the losses for each n, with an explanation."""
    lines = [
        "| n | Collapsed points (median) | Variance not recovered (median) | Relative error (median) |",
        "|---:|---:|---:|---:|",
    ]
    for panel in result.panels:
        drawn, median = panel.drawn, panel.median
        lines.append(
            f"| {panel.dimensions} | {drawn.collapsed:.1%} ({median.collapsed:.1%}) "
            f"| {drawn.unrecovered_variance:.1%} ({median.unrecovered_variance:.1%}) "
            f"| {drawn.relative_error:.1%} ({median.relative_error:.1%}) |"
        )
    lines += [
        "",
        f"A spiral of {len(result.spiral)} points through pinv(T) ReLU(T x); T has n x 2 standard normal values, seed "
        f"{result.seed}. Each cell is of the plot's matrix, and in brackets is the median of {result.draws} matrices. "
        "A point is collapsed if fewer than two units are positive. The best affine map from output to input does not "
        "recover the variance shown. The relative error also counts a change of scale: for large n, ReLU halves the "
        "spiral, so the error tends to 50 %, not to 0. The paper prints no numbers for this figure.",
    ]
    return "\n".join(lines)


def draw(result: Figure1) -> Figure:
    """Draw the input and a panel for each n, colored along the spiral; the input is gray behind each output."""
    figure = new_figure(
        "A spiral through ReLU in n dimensions and back",
        "After MobileNetV2, Figure 1. Output = pinv(T) ReLU(T x); T has n x 2 standard normal values "
        f"(seed {result.seed}). Gray: the input.\n"
        "Collapsed: points with fewer than two positive units. "
        "Variance lost: variance of the input that no affine map recovers.",
        width=12,
        height=8.2,
    )
    grid = figure.subplots(2, 3, sharex=True, sharey=True)
    curves = [np.array(result.spiral), *(np.array(panel.output) for panel in result.panels)]
    limit = 1.06 * max(float(np.abs(curve).max()) for curve in curves)
    titles = [("Input", "A spiral in the plane")] + [
        (
            f"n = {panel.dimensions}",
            f"{panel.drawn.collapsed:.0%} collapsed, {panel.drawn.unrecovered_variance:.0%} of variance lost",
        )
        for panel in result.panels
    ]
    for axes, curve, (title, subtitle) in zip(grid.flat, curves, titles, strict=True):
        if curve is not curves[0]:
            axes.plot(*curves[0].T, color=LIGHT, linewidth=1.2, zorder=1)
        lines = _draw_curve(axes, curve)
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_color(LIGHT)
        axes.set_title(title, loc="left", fontsize=TEXT_SIZE, fontweight="bold", color=INK)
        axes.set_xlabel(subtitle, loc="left", fontsize=SMALL_SIZE + 1, color=INK)
    bar = figure.colorbar(lines, ax=grid, shrink=0.7, aspect=35, pad=0.02, ticks=[0, 1])
    bar.ax.set_yticklabels(["center", "end"], fontsize=SMALL_SIZE + 1, color=INK)
    bar.set_label("Position along the spiral", fontsize=TEXT_SIZE, color=INK)
    bar.outline.set_visible(False)
    return figure


def _draw_curve(axes: Axes, curve: Array) -> LineCollection:
    along = np.linspace(0.0, 1.0, len(curve) - 1)
    segments = np.stack([curve[:-1], curve[1:]], axis=1)
    lines = LineCollection(list(segments), array=along, cmap=COLORS, linewidths=3.0, capstyle="round", zorder=2)
    axes.add_collection(lines)
    return lines
