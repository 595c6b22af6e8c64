"""``segmnv2 verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segmnv2.cli.export import LeastOption
from segmnv2.cli.inference_options import ThreadsOption, check_inputs, refuse_options
from segmnv2.cli.show_result import JsonOption, check_json, text_stream, write_json


def verify(
    export: Annotated[Path, typer.Argument(help="File of `segmnv2 export`.", show_default=False)],
    against: Annotated[
        Path,
        typer.Option(
            metavar="WEIGHTS",
            help="What it was made of: a model file, a name of `segmnv2 weights`, or owner/name on the Hub.",
            show_default=False,
        ),
    ],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Images to compare on.", show_default="drawn ones")
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="NAME.png for each image, of class ids, to measure mIOU before and after."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Images at most, evenly over the folder.", show_default="all")
    ] = None,
    repeats: Annotated[int, typer.Option(min=0, help="Runs to measure latency; 0 skips it.")] = 15,
    json_out: JsonOption = None,
    least_agreement: LeastOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Compare an exported file, in its own runtime, with the network it was made of.

    Prints the share of pixels with the same label, the error of logits, mIOU before and after, size and latency. The
    exit code is 2 if fewer pixels agree than must.
    """
    from segmnv2.cli.progress import byte_progress, image_progress
    from segmnv2.engines.backend import check_threads
    from segmnv2.export.comparison import check_agreement, check_least, verify_export
    from segmnv2.export.probes import list_pictures
    from segmnv2.hub.resolve import resolve_weights
    from segmnv2.models.model_file import load_model

    check_least(least_agreement)
    check_json(json_out)
    check_inputs({"EXPORT": export, "--images": images, "--masks": masks})
    if images is None:
        refuse_options({"--limit": limit}, "comparisons on drawn images", "leave it out, or give --images")
    count = None if images is None else len(list_pictures(images, masks, limit))
    model = load_model(resolve_weights(against, track=byte_progress))
    with image_progress(count) as advance:
        found = verify_export(
            export,
            model,
            images,
            masks,
            limit=limit,
            threads=check_threads(threads),
            repeats=repeats,
            on_image=advance,
        )
    rows = found.rows()
    width = max(map(len, rows))
    lines = [f"{export} beside {against}", *(f"  {name:<{width}}  {value}" for name, value in rows.items())]
    typer.echo("\n".join(lines), file=text_stream(json_out))
    write_json(found.to_dict(), json_out)
    check_agreement(found, least_agreement)
