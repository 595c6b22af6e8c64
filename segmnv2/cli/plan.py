"""``segmnv2 plan``: which networks and inference fit a budget."""

from __future__ import annotations

from typing import Annotated

import typer

from segmnv2.cli.inference_options import DeviceOption
from segmnv2.cli.show_result import JsonOption, check_json, text_stream, write_json


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
    from segmnv2.cli.inference_options import refuse_options
    from segmnv2.paper.choice import list_choices
    from segmnv2.paper.footprint import Budget

    check_json(json_out)
    if not measure:
        measuring = {"--seconds": seconds, "--threads": threads, "--device": None if device == "auto" else device}
        refuse_options(measuring, "plans without measuring", "leave it out, or leave out --no-measure")
    budget = Budget(madds, ms, params)
    choices = list_choices(backbone, width or (), size or ())

    from rich.console import Console

    from segmnv2.benchmark.machine import describe_machine
    from segmnv2.paper.plan_table import to_markdown
    from segmnv2.paper.planner import plan as make_plan
    from segmnv2.paper.stopwatch import Stopwatch, thread_count

    console = Console(stderr=True)
    stopwatch = Stopwatch(device) if measure else None
    with thread_count(threads), console.status("Planning", spinner="line"):
        result = make_plan(choices, budget, stopwatch, limit=limit, seconds=60.0 if seconds is None else seconds)
        machine = describe_machine(str(stopwatch.device)) if stopwatch else None
    text = to_markdown(result)
    if machine is not None:
        text += "\n\nMeasured with: " + ", ".join(f"{key} {value}" for key, value in machine.items()) + "."
    print(text, file=text_stream(json_out))
    write_json({**result.to_dict(), "machine": machine}, json_out)
