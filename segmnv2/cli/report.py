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

from segmnv2.cli.inference_options import DeviceOption, refuse_options
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
    subject: Annotated[Subject, typer.Argument(help="Which of the paper's tables and figures.")] = Subject.TABLE7,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(help="table7: file of `segmnv2 evaluate --json` that fills a row's mIOU; repeatable."),
    ] = None,
    out: Annotated[
        list[Path] | None, typer.Option(help="Figures: write the plot here too, .png or .svg; repeatable.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="figure6: updates of each of its networks; a few hundred by default.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="figure6: how often each of its networks is trained; 3 by default.")
    ] = None,
    json_out: JsonOption = None,
) -> None:
    """Print one of the paper's tables or figures, computed here as far as possible.

    table7: segmentation on VOC; parameters and multiply-adds computed, mIOU with its source. table4: ImageNet
    classifiers; parameters and multiply-adds computed, accuracy the paper's. figure1: what ReLU leaves of a spiral,
    computed. figure5: accuracy against multiply-adds; multiply-adds computed, accuracy published. figure6: what linear
    bottlenecks and shortcuts do, in small: trains four kinds of networks on generated images.
    """
    training = {name: value for name, value in (("steps", steps), ("seeds", seeds)) if value is not None}
    _check(subject, evaluation or [], training)
    paths = _check_places(subject, out or [])
    check_json(json_out)
    result = _compute(subject, evaluation or [], training)
    print(result.text, file=text_stream(json_out))
    write_json(result.values, json_out)
    if paths and result.draw is not None:
        from segmnv2.paper.drawing import save_figure

        figure = result.draw()
        for path in paths:
            # Not on standard output, which may be JSON for another program.
            print(f"written: {save_figure(path, figure)}", file=sys.stderr)


def _check(subject: Subject, evaluation: list[Path], training: dict[str, Any]) -> None:
    """Refuse options that belong to another subject."""
    if subject is not Subject.TABLE7 and evaluation:
        raise ConfigError(f"--evaluation fills table7 only, not {subject.value}; leave it out, or report table7")
    for name, value in training.items():
        if subject is not Subject.FIGURE6:
            raise ConfigError(
                f"--{name} {value}: only figure6 trains, not {subject.value}; leave it out, or report figure6"
            )


def _check_places(subject: Subject, out: list[Path]) -> list[Path]:
    """Refuse a plot of a table, or one that could not be written, before anything is computed."""
    if not out:
        return []
    figures = [one for one in Subject if one.value.startswith("figure")]
    if subject not in figures:
        raise ConfigError(
            f"--out {out[0]}: {subject.value} is a table and has no plot; leave it out, or report one of "
            f"{', '.join(one.value for one in figures)}"
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
            task = bar.add_task("Training four kinds of networks", total=None)
            curves = train(progress=lambda done, total: bar.update(task, completed=done, total=total))
    else:
        curves = train()
    return _Report(asdict(curves), figure6.to_markdown(curves), lambda: figure6.draw(curves))


def plan(
    madds: Annotated[
        float | None, typer.Option(metavar="N", help="Most multiply-adds for one image, as 5e9.", show_default=False)
    ] = None,
    ms: Annotated[
        float | None,
        typer.Option(metavar="MS", help="Most milliseconds for one image, measured here.", show_default=False),
    ] = None,
    params: Annotated[
        float | None, typer.Option(metavar="N", help="Most trainable values, as 3e6.", show_default=False)
    ] = None,
    backbone: Annotated[str, typer.Option(help="mobilenet_v2 or mobilenet_v1.")] = "mobilenet_v2",
    width: Annotated[
        list[float] | None,
        typer.Option(metavar="X", help="Only this multiplier of channels; repeatable.", show_default="0.35 to 1.4"),
    ] = None,
    size: Annotated[
        list[int] | None,
        typer.Option(
            metavar="PIXELS", help="Only this side, of 32 k + 1; repeatable.", show_default="eight, 129 to 769"
        ),
    ] = None,
    measure: Annotated[bool, typer.Option(help="Measure the milliseconds of the rows shown.")] = True,
    seconds: Annotated[
        float | None, typer.Option(help="Limit of the time to measure, about.", show_default="60")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="Threads to compute on.", show_default="PyTorch's own number")
    ] = None,
    device: DeviceOption = "auto",
    limit: Annotated[int, typer.Option(metavar="N", help="Most rows to show.")] = 20,
    json_out: JsonOption = None,
) -> None:
    """List the best choices of network and inference within a budget of multiply-adds, time or parameters.

    A choice is a width, an output stride (smaller is finer), ASPP or not, a size, scales to average over, and flips or
    not. Accuracy is known of a few choices only and none is guessed. Instead, of the choices within the budget those
    are listed that are maximal: no other one within the budget is at least as good in every one of these axes and
    better in one. Where an mIOU was published for exactly that choice, it is shown with its source. Rows that differ
    least from a published choice come first.
    """
    from segmnv2.paper.choice import list_choices
    from segmnv2.paper.footprint import Budget

    check_json(json_out)
    if not measure:
        remedy, place = "leave it out, or leave out --no-measure", None if device == "auto" else device
        refuse_options("plans without measuring", remedy, seconds=seconds, threads=threads, device=place)
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
