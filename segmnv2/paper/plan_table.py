"""A plan as text."""

from __future__ import annotations

from collections.abc import Iterable

from segmnv2.paper.choice import find_published
from segmnv2.paper.planner import Plan, Row

COLUMNS = (
    "| width | OS | ASPP | size | scales | flip | params | MAdds | MAdds, paper's count | ms | published mIOU |",
    "|---:|---:|:-:|---:|---|:-:|---:|---:|---:|---:|---|",
)


def to_markdown(plan: Plan) -> str:
    """Return the table, the published choices that it leaves out, and how to read it."""
    times = ", by times measured and estimated" if plan.budget.ms is not None else ""
    found = (
        f"{plan.within} of {plan.considered} choices are within {plan.budget}{times}, {plan.maximal} of them maximal: "
        "nothing within the budget is at least as wide, fine and large, with as much ASPP, scales and flips, and more "
        "in one."
    )
    lines = [*COLUMNS, *_cells(plan.rows), "", found]
    if len(plan.rows) < plan.maximal:
        lines.append(
            f"The {len(plan.rows)} nearest to published choices are shown; --limit shows more, --width and --size "
            "narrow."
        )
    if plan.published:
        lines += ["", "Published and within the budget, though not in the table:", "", *COLUMNS]
        lines += _cells(plan.published)
    if plan.hurried:
        lines += ["", "Time ran out before all was measured; give more with --seconds, or fewer rows with --limit."]
    return "\n".join([*lines, "", *_reading(plan)])


def _reading(plan: Plan) -> list[str]:
    lines = [
        "Of the other choices no mIOU is known: train and evaluate those you consider. Published: percent on VOC 2012 "
        "val, pre-trained on COCO. MAdds count all passes."
    ]
    if any(row.ms is not None for row in (*plan.rows, *plan.published)):
        lines.append(
            "ms: one image of the size, in memory, to its label map, median of several runs here; ~ is an estimate "
            f"from the {plan.measured} choices that were measured."
        )
    return lines


def _cells(rows: Iterable[Row]) -> list[str]:
    return [f"| {' | '.join(_row(row))} |" for row in rows]


def _row(row: Row) -> list[str]:
    choice, cost = row.choice, row.cost
    published = find_published(choice)
    return [
        f"{choice.width:g}",
        str(choice.output_stride),
        _tick(choice.aspp),
        str(choice.size),
        " ".join(f"{scale:g}" for scale in choice.scales),
        _tick(choice.flip),
        f"{cost.params / 1e6:.3f} M",
        f"{cost.madds / 1e9:.4g} B",
        f"{cost.madds_paper / 1e9:.4g} B",
        _milliseconds(row),
        f"{published.miou:.2f} ({published.source})" if published else "",
    ]


def _milliseconds(row: Row) -> str:
    if row.ms is None:
        return ""
    return ("" if row.measured else "~") + (f"{row.ms:.3g}" if row.ms < 1000 else f"{row.ms:.0f}")


def _tick(value: bool) -> str:
    return "yes" if value else ""
