"""``segmnv2 infer``: label maps, overlays and confidence maps of image files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def infer(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders, or quoted patterns such as 'photos/*.jpg'. Of a folder its images are taken; "
            "a file given by name is tried whatever its ending.",
            show_default=False,
        ),
    ],
    weights: Annotated[
        Path, typer.Option(help="Model file (.safetensors), of `segmnv2 import` or of training.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for masks/NAME.png, overlays/NAME.jpg, confidence/NAME.png; existing files are "
            "replaced. Images of one run with the same NAME become NAME_ENDING, then FOLDER_NAME_ENDING.",
            show_default=False,
        ),
    ],
    output_stride: Annotated[
        int | None, typer.Option(help="8, 16 or 32: smaller is finer and slower.", show_default="the file's")
    ] = None,
    multi_scale: Annotated[bool, typer.Option("--multi-scale", help="Average over six scales, 0.5 to 1.75.")] = False,
    flip: Annotated[bool, typer.Option("--flip", help="Average over the mirrored image too.")] = False,
    size: Annotated[
        str,
        typer.Option(
            help="Longest side that the network sees, in pixels, at least 17: smaller images are padded, larger ones "
            "scaled down and their labels up again. 'native': no scaling."
        ),
    ] = "513",
    overlay: Annotated[bool, typer.Option(help="Write overlays with a legend.")] = True,
    opacity: Annotated[float, typer.Option(help="Of the overlays' colours, 0 to 1.")] = 0.6,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Write confidence maps: grey 0..255 is probability 0..1.")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Search subfolders too, those with this command's results apart.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
) -> None:
    """Label every pixel of images.

    A file that cannot be read is reported and the rest goes on; the exit code is then 2.
    """
    from segmnv2.cli.options import parse_size
    from segmnv2.cli.progress import image_progress
    from segmnv2.inference.files import ResultFolder, infer_files
    from segmnv2.inference.media import list_images
    from segmnv2.inference.predictor import Predictor

    results = ResultFolder(out, overlay, confidence, opacity)
    paths = list_images(inputs, recursive=recursive, exclude=results.subfolders)
    predictor = Predictor.load(weights, device, output_stride, parse_size(size), multi_scale, flip)

    with image_progress(len(paths)) as advance:

        def on_done(path: Path, failure: str | None) -> None:
            if failure is not None:
                print(f"error: {failure}", file=sys.stderr)
            advance()

        report = infer_files(predictor, paths, results, on_done)
    typer.echo(f"{len(report.written)} written to {out}, {len(report.failed)} failed")
    if report.failed:
        raise typer.Exit(2)
