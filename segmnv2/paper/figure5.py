"""The paper's Figure 5: published accuracies of classifiers against multiply-adds that are counted here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from segmnv2.paper.drawing import INK, MARKERS, PALETTE, SMALL_SIZE, TEXT_SIZE, new_figure, style_axes
from segmnv2.paper.table4 import count_costs

SLIM = "slim README"
PAPER = "Table 4"


@dataclass(frozen=True)
class Published:
    """Printed values of a model at an image size: top-1 in percent, params and MAdds in millions.

    Slim's params are without batch norm.
    """

    network: str
    backbone: str
    options: tuple[tuple[str, float], ...]
    width: float
    size: int
    top1: float
    params: float
    madds: float
    source: str


# Width -> (params, size -> (madds, top1)).
_Slim = dict[float, tuple[float, dict[int, tuple[float, float]]]]

_V2: _Slim = {
    1.4: (6.06, {224: (582, 75.0)}),
    1.3: (5.34, {224: (509, 74.4)}),
    1.0: (3.47, {224: (300, 71.8), 192: (221, 70.7), 160: (154, 68.8), 128: (99, 65.3), 96: (56, 60.3)}),
    0.75: (2.61, {224: (209, 69.8), 192: (153, 68.7), 160: (107, 66.4), 128: (69, 63.2), 96: (39, 58.8)}),
    0.5: (1.95, {224: (97, 65.4), 192: (71, 63.9), 160: (50, 61.0), 128: (32, 57.7), 96: (18, 51.2)}),
    0.35: (1.66, {224: (59, 60.3), 192: (43, 58.2), 160: (30, 55.7), 128: (20, 50.8), 96: (11, 45.5)}),
}
"""Source: slim/nets/mobilenet/README.md, MobileNetV2."""

_V1: _Slim = {
    1.0: (4.24, {224: (569, 70.9), 192: (418, 70.0), 160: (291, 68.0), 128: (186, 65.2)}),
    0.75: (2.59, {224: (317, 68.4), 192: (233, 67.2), 160: (162, 65.3), 128: (104, 62.1)}),
    0.5: (1.34, {224: (150, 63.3), 192: (110, 61.7), 160: (77, 59.1), 128: (49, 56.3)}),
    0.25: (0.47, {224: (41, 49.8), 192: (34, 47.7), 160: (21, 45.5), 128: (14, 41.5)}),
}
"""Source: slim/nets/mobilenet_v1.md."""


def _slim(network: str, backbone: str, table: _Slim) -> tuple[Published, ...]:
    return tuple(
        Published(network, backbone, (("width", width),), width, size, top1, params, madds, SLIM)
        for width, (params, sizes) in table.items()
        for size, (madds, top1) in sizes.items()
    )


PUBLISHED = (
    *_slim("MobileNetV2", "mobilenet_v2", _V2),
    *_slim("MobileNetV1", "mobilenet_v1", _V1),
    Published("ShuffleNet", "shufflenet_v1", (("width", 2.0),), 2.0, 224, 73.7, 5.4, 524, PAPER),
    Published("ShuffleNet", "shufflenet_v1", (("width", 1.5),), 1.5, 224, 71.5, 3.4, 292, PAPER),
    Published("NASNet-A", "nasnet_a_mobile", (), 1.0, 224, 74.0, 5.3, 564, PAPER),
)
"""The points of Figure 5: families in its order, each from the largest width and size to the smallest."""


TOLERANCE = 0.01
"""Relative difference from the published value above which a computed value has a note; rounding is ignored."""
PARAMS_DIGIT = {SLIM: 0.01, PAPER: 0.1}
"""The last printed digit of parameters, in millions."""
TICKS = (10, 20, 50, 100, 200, 500)
"""Ticks of the axis of multiply-adds, in millions."""
BELOW_RIGHT = (7.0, -10.0)
LABEL_OFFSETS = {
    ("MobileNetV2", 1.4): (7.0, 10.0),
    ("MobileNetV2", 1.3): (-7.0, 8.0),
    ("ShuffleNet", 2.0): (-7.0, -8.0),
    ("ShuffleNet", 1.5): (-4.0, -14.0),
}
"""Offsets of labels from their points, in typographic points, where the usual place is taken."""
SIZES_SHOWN_ON = ("MobileNetV2", 0.35)
"""The only line with labels of image sizes; it has room below it."""


@dataclass(frozen=True)
class Point:
    """A model at an image size.

    Attributes:
        network: name of the family.
        width: multiplier of its channels: 1.5 and 2 for the paper's ShuffleNets, 1 for NASNet-A mobile.
        size: side of the image in pixels.
        params: trainable values, batch norm's scales and shifts included.
        weights: trainable values of convolutions and linear layers alone.
        madds: multiply-adds for one image.
        top1: accuracy on ImageNet's validation images, in percent; published, not measured here.
        published: ``params`` and ``madds`` in millions, as printed.
        source: source of ``top1`` and of the published costs.
        note: difference, if a computed cost is more than 1 % from the published one; rounding is ignored.
    """

    network: str
    width: float
    size: int
    params: int
    weights: int
    madds: int
    top1: float
    published: dict[str, float]
    source: str
    note: str = ""


@dataclass(frozen=True)
class Figure5:
    """The figure's content: points by family, each from the largest width and size to the smallest."""

    points: list[Point]


def figure5() -> Figure5:
    """Compute the costs of every published point; accuracies are the published ones."""
    return Figure5([_point(published) for published in PUBLISHED])


def _point(published: Published) -> Point:
    params, weights, madds = count_costs(published.backbone, published.options, published.size)
    return Point(
        network=published.network,
        width=published.width,
        size=published.size,
        params=params,
        weights=weights,
        madds=madds,
        top1=published.top1,
        published={"params": published.params, "madds": published.madds},
        source=published.source,
        note=_note(published, madds, (params, weights)),
    )


def agrees(computed: float, printed: float, digit: float) -> bool:
    """Return whether a value is within 1 % of a printed one; a step of the printed last digit is ``digit``.

    Published tables round some values and truncate others. So a difference below one step is ignored.
    """
    return abs(computed - printed) < TOLERANCE * printed + digit


def _note(published: Published, madds: int, counts: Iterable[int]) -> str:
    """Name the published costs that differ from the computed ones; params may be either of the two counts."""
    off = []
    if not agrees(madds / 1e6, published.madds, digit=1):
        off.append(f"MAdds {madds / 1e6 / published.madds - 1:+.1%}")
    if not any(agrees(count / 1e6, published.params, digit=PARAMS_DIGIT[published.source]) for count in counts):
        off.append("params")
    return ", ".join(off) and f"{', '.join(off)} off the published value, unexplained"


def to_markdown(result: Figure5) -> str:
    """Return a table with a row for each point and the published costs in brackets, with an explanation."""
    lines = [
        "| Network | Width | Size | Top-1 % (published) | MAdds (published) | Params | without batch norm "
        "| (published) | Source | Note |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    for point in result.points:
        lines.append(
            f"| {point.network} | {point.width} | {point.size} | {point.top1:.1f} "
            f"| {point.madds / 1e6:.1f} M ({point.published['madds']:g} M) | {point.params / 1e6:.2f} M "
            f"| {point.weights / 1e6:.2f} M | ({point.published['params']:g} M) | {point.source} | {point.note} |"
        )
    lines += [
        "",
        "Params and MAdds are computed from this library's models with a linear layer to 1000 classes. Top-1 on "
        "ImageNet is from the named source and was not measured here. A published value in brackets may be rounded or "
        "truncated. Combinations that the sources do not print are omitted.",
    ]
    return "\n".join(lines)


def draw(result: Figure5) -> Figure:
    """Draw top-1 against multiply-adds on a logarithmic axis, a line for each width of a family."""
    figure = new_figure(
        "ImageNet accuracy against multiply-adds",
        "After MobileNetV2, Figure 5. MAdds: computed from this library's models. Top-1: published, not measured here "
        "(MobileNets: slim's README;\nShuffleNet, NASNet-A: MobileNetV2, Table 4). Numbers at the points are widths; a "
        "line joins the image sizes of one width, up to 224 px.",
        width=12,
        height=7.4,
    )
    axes = figure.subplots()
    families = list(dict.fromkeys(point.network for point in result.points))
    for family, color, marker in zip(families, PALETTE, MARKERS, strict=False):
        points = [point for point in result.points if point.network == family]
        _draw_family(axes, family, points, color, marker)
    style_axes(axes, x_label="Multiply-adds for one image, millions (log scale)", y_label="ImageNet top-1, percent")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.06, y=0.06)
    axes.legend(loc="lower right", fontsize=TEXT_SIZE, frameon=False, labelcolor=INK)
    return figure


def _draw_family(axes: Axes, family: str, points: Iterable[Point], color: str, marker: str) -> None:
    widths: dict[float, list[Point]] = {}
    for point in points:
        widths.setdefault(point.width, []).append(point)
    for number, (width, line) in enumerate(widths.items()):
        axes.plot(
            [point.madds / 1e6 for point in line],
            [point.top1 for point in line],
            color=color,
            marker=marker,
            markersize=10,
            markeredgecolor="white",
            linestyle="-" if any(len(line) > 1 for line in widths.values()) else "none",
            linewidth=1.8,
            label=family if number == 0 else None,
            zorder=3,
        )
        if len(widths) > 1:
            _label(axes, f"{width}", line[0], color, LABEL_OFFSETS.get((family, width), BELOW_RIGHT))
        if (family, width) == SIZES_SHOWN_ON:
            for point in line[1:]:
                text = f"{point.size} px" if point is line[-1] else f"{point.size}"
                _label(axes, text, point, color, BELOW_RIGHT, weight="normal")


def _label(axes: Axes, text: str, point: Point, color: str, offset: tuple[float, float], weight: str = "bold") -> None:
    axes.annotate(
        text,
        (point.madds / 1e6, point.top1),
        xytext=offset,
        textcoords="offset points",
        ha="left" if offset[0] > 0 else "right",
        va="center",
        fontsize=SMALL_SIZE + 1,
        fontweight=weight,
        color=color,
        zorder=4,
    )
