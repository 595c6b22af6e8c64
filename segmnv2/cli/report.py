"""``segmnv2 report`` and ``segmnv2 plan``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from segmnv2.cli.inference_options import DeviceOption, ThreadsOption, refuse_options
from segmnv2.cli.output import JsonOption, check_json, text_stream, write_json
from segmnv2.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Subject(str, Enum):
    """Tables and figures that can be reported."""

    TABLE4 = "table4"
    TABLE7 = "table7"
    FIGURE1 = "figure1"
    FIGURE5 = "figure5"
    FIGURE6 = "figure6"


class _Report(NamedTuple):
    values: Any
    text: str
    draw: Callable[[], Figure] | None = None


def report(
    subject: Annotated[Subject, typer.Argument(help="Table or figure of the paper.")] = Subject.TABLE7,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(help="table7: file of `segmnv2 evaluate --json` with the mIOU of a row; repeatable."),
    ] = None,
    out: Annotated[
        list[Path] | None, typer.Option(help="Figures: also write the plot to this .png or .svg file; repeatable.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="figure6: training steps of each model; a few hundred by default.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="figure6: number of training runs of each model; 3 by default.")
    ] = None,
    json_out: JsonOption = None,
) -> None:
    """Print a table or figure of the paper, computed on this machine where possible.

    table7: segmentation on VOC, with computed parameters and multiply-adds, and mIOU with its source. table4:
    classification on ImageNet, with computed parameters and multiply-adds, and the paper's accuracy. figure1: a spiral
    after ReLU, computed. figure5: published accuracy against computed multiply-adds. figure6: the effect of linear
    bottlenecks and shortcuts, on four kinds of small models trained on generated images.
    """
    training = {name: value for name, value in (("steps", steps), ("seeds", seeds)) if value is not None}
    _check(subject, evaluation or [], training)
    paths = _check_figure_paths(subject, out or [])
    check_json(json_out)
    result = _compute(subject, evaluation or [], training)
    print(result.text, file=text_stream(json_out))
    write_json(result.values, json_out)
    if paths and result.draw is not None:
        from segmnv2.paper.drawing import save_figure

        figure = result.draw()
        for path in paths:
            # Standard output may hold JSON.
            print(f"written: {save_figure(path, figure)}", file=sys.stderr)


def _check(subject: Subject, evaluation: list[Path], training: dict[str, Any]) -> None:
    """Refuse options that belong to another subject."""
    if subject is not Subject.TABLE7:
        refuse_options(f"reports of {subject.value}", "leave it out, or report table7", evaluation=evaluation or None)
    if subject is not Subject.FIGURE6:
        refuse_options(f"reports of {subject.value}", "leave it out, or report figure6", **training)


def _check_figure_paths(subject: Subject, out: list[Path]) -> list[Path]:
    """Check, before anything is computed, that the subject is a figure and that its files can be written."""
    if not out:
        return []
    figures = [one.value for one in Subject if one.value.startswith("figure")]
    if subject.value not in figures:
        raise ConfigError(
            f"--out {out[0]}: {subject.value} is a table and has no plot; leave it out, or report one of "
            f"{', '.join(figures)}"
        )
    from segmnv2.paper.drawing import check_figure_path

    return [check_figure_path(path) for path in out]


def _compute(subject: Subject, evaluation: list[Path], training: dict[str, Any]) -> _Report:
    if subject is Subject.TABLE4:
        from segmnv2.paper import table4

        classifiers = table4.table4()
        return _Report([asdict(row) for row in classifiers], table4.to_markdown(classifiers))
    if subject is Subject.FIGURE1:
        from segmnv2.paper import figure1

        spirals = figure1.figure1()
        return _Report(asdict(spirals), figure1.to_markdown(spirals), lambda: figure1.draw(spirals))
    if subject is Subject.FIGURE5:
        from segmnv2.paper import figure5

        points = figure5.figure5()
        return _Report(asdict(points), figure5.to_markdown(points), lambda: figure5.draw(points))
    if subject is Subject.FIGURE6:
        return _figure6(training)
    from segmnv2.paper import table7

    rows = table7.table7(evaluation)
    return _Report([asdict(row) for row in rows], table7.to_markdown(rows))


def _figure6(training: dict[str, Any]) -> _Report:
    from rich.console import Console
    from rich.progress import Progress

    from segmnv2.paper import figure6

    console = Console(stderr=True)
    train = partial(figure6.figure6, **{"steps": figure6.STEPS, "seeds": figure6.SEEDS, **training})
    if console.is_terminal:
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("Training four kinds of models", total=None)
            curves = train(progress=lambda done, total: bar.update(task, completed=done, total=total))
    else:
        curves = train()
    return _Report(asdict(curves), figure6.to_markdown(curves), lambda: figure6.draw(curves))


def plan(
    madds: Annotated[
        float | None,
        typer.Option(metavar="N", help="Largest number of multiply-adds per image, such as 5e9.", show_default=False),
    ] = None,
    ms: Annotated[
        float | None,
        typer.Option(
            metavar="MS", help="Largest number of milliseconds per image, measured on this machine.", show_default=False
        ),
    ] = None,
    params: Annotated[
        float | None, typer.Option(metavar="N", help="Largest number of parameters, such as 3e6.", show_default=False)
    ] = None,
    backbone: Annotated[str, typer.Option(help="mobilenet_v2 or mobilenet_v1.")] = "mobilenet_v2",
    width: Annotated[
        list[float] | None,
        typer.Option(metavar="X", help="Only this width multiplier; repeatable.", show_default="0.35 to 1.4"),
    ] = None,
    size: Annotated[
        list[int] | None,
        typer.Option(
            metavar="PIXELS", help="Only this input size, 32 k + 1; repeatable.", show_default="eight, 129 to 769"
        ),
    ] = None,
    measure: Annotated[bool, typer.Option(help="Measure the milliseconds of the listed rows.")] = True,
    seconds: Annotated[
        float | None, typer.Option(help="Approximate time limit of the measurement.", show_default="60")
    ] = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    limit: Annotated[int, typer.Option(metavar="N", help="Largest number of rows.")] = 20,
    json_out: JsonOption = None,
) -> None:
    """List the best choices of model and inference within a budget of multiply-adds, time or parameters.

    A choice is a width, an output stride (smaller is finer), ASPP or not, a size, scales, and flips or not. Accuracy is
    known only for a few choices and is never estimated. Instead, a choice is listed unless another choice within the
    budget is at least as good in all of these and better in one. A published mIOU of exactly this choice is shown with
    its source. Rows closest to a published choice come first.
    """
    from segmnv2.paper.choice import list_choices
    from segmnv2.paper.footprint import Budget

    check_json(json_out)
    if not measure:
        remedy, given_device = "leave it out, or leave out --no-measure", None if device == "auto" else device
        refuse_options("plans without measuring", remedy, seconds=seconds, threads=threads, device=given_device)
    budget = Budget(madds, ms, params)
    choices = list_choices(backbone, width or (), size or ())

    from rich.console import Console

    from segmnv2.benchmark.machine import describe_machine
    from segmnv2.engines.backend import check_threads
    from segmnv2.engines.pytorch import torch_threads
    from segmnv2.paper.footprint import Stopwatch
    from segmnv2.paper.planner import plan as make_plan
    from segmnv2.paper.planner import to_markdown

    console = Console(stderr=True)
    stopwatch = Stopwatch(device) if measure else None
    with torch_threads(check_threads(threads)), console.status("Planning", spinner="line"):
        result = make_plan(choices, budget, stopwatch, limit=limit, seconds=60.0 if seconds is None else seconds)
        machine = describe_machine(str(stopwatch.device)) if stopwatch else None
    text = to_markdown(result)
    if machine is not None:
        text += "\n\nMeasured with: " + ", ".join(f"{key} {value}" for key, value in machine.items()) + "."
    print(text, file=text_stream(json_out))
    write_json({**result.to_dict(), "machine": machine}, json_out)
