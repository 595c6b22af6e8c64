"""``segmnv2 infer``: label maps, overlays and confidence maps of image files, or boxes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from segmnv2.cli.options import BackendOption, CalibrationOption, PrecisionOption, ThreadsOption

Prepared = tuple[Any, Callable[[Any, str], list[Path]], list[Path]]
"""What predicts, what writes a prediction under a name, and the folders of the results."""


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
        Path,
        typer.Option(
            help="Model file (.safetensors) of `segmnv2 import` or of training, a name of `segmnv2 weights`, or "
            "owner/name on the Hugging Face Hub.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for masks/NAME.png, overlays/NAME.jpg, confidence/NAME.png, or of a detector boxes/NAME.json "
            "and overlays/NAME.jpg; existing files are replaced. Images of one run with the same NAME become "
            "NAME_ENDING, then FOLDER_NAME_ENDING.",
            show_default=False,
        ),
    ],
    output_stride: Annotated[
        int | None, typer.Option(help="8, 16 or 32: smaller is finer and slower.", show_default="the file's")
    ] = None,
    multi_scale: Annotated[bool, typer.Option("--multi-scale", help="Average over six scales, 0.5 to 1.75.")] = False,
    flip: Annotated[bool, typer.Option("--flip", help="Average over the mirrored image too.")] = False,
    size: Annotated[
        str | None,
        typer.Option(
            help="Longest side that the network sees, in pixels, at least 17: smaller images are padded, larger ones "
            "scaled down and their labels up again. 'native': no scaling.",
            show_default="513",
        ),
    ] = None,
    overlay: Annotated[bool, typer.Option(help="Write overlays with a legend, or with boxes.")] = True,
    opacity: Annotated[float | None, typer.Option(help="Of the overlays' colours, 0 to 1.", show_default="0.6")] = None,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Write confidence maps: grey 0..255 is probability 0..1.")
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(help="Of a detector: lowest score of the boxes to tell, 0 to 1.", show_default="0.5"),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Search subfolders too, those with this command's results apart.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    backend: BackendOption = None,
    precision: PrecisionOption = None,
    threads: ThreadsOption = None,
    calibration: CalibrationOption = None,
    batch: Annotated[
        int | None,
        typer.Option(help="Images to run at once: 1 is fastest on a CPU; try 8 on a GPU.", show_default="1"),
    ] = None,
) -> None:
    """Label every pixel of images, or with a detector's weights find boxes in them.

    A file that cannot be read is reported and the rest goes on; the exit code is then 2.
    """
    from segmnv2.cli.byte_progress import byte_progress
    from segmnv2.cli.progress import image_progress
    from segmnv2.hub.resolve import resolve_weights
    from segmnv2.inference.files import infer_files
    from segmnv2.inference.media import list_images
    from segmnv2.inference.pipeline import check_batch
    from segmnv2.models.file import read_kind

    segmentation = {
        "--output-stride": output_stride,
        "--multi-scale": multi_scale,
        "--flip": flip,
        "--size": size,
        "--opacity": opacity,
        "--confidence": confidence,
        "--backend": backend,
        "--precision": precision,
        "--threads": threads,
        "--calibration": calibration,
        "--batch": batch,
    }
    count = 1 if batch is None else check_batch(batch)
    weights = resolve_weights(weights, track=byte_progress)
    prepare = _detector if read_kind(weights) == "detector" else _segmenter
    predictor, write, own = prepare(weights, out, overlay, device, segmentation, {"--threshold": threshold})
    paths = list_images(inputs, recursive=recursive, exclude=own)

    with image_progress(len(paths)) as advance:

        def on_done(path: Path, failure: str | None) -> None:
            if failure is not None:
                print(f"error: {failure}", file=sys.stderr)
            advance()

        report = infer_files(predictor, paths, write, on_done, batch=count)
    typer.echo(f"{len(report.written)} written to {out}, {len(report.failed)} failed{_engine(predictor)}")
    if report.failed:
        raise typer.Exit(2)


def _engine(predictor: Any) -> str:
    """Return what ran the network, if that could be chosen."""
    return f" ({predictor.backend})" if hasattr(predictor, "backend") else ""


def _segmenter(
    weights: Path, out: Path, overlay: bool, device: str, options: dict[str, Any], others: dict[str, Any]
) -> Prepared:
    from segmnv2.cli.options import parse_size, refuse_options
    from segmnv2.inference.canvas import DEFAULT_SIZE
    from segmnv2.inference.files import ResultFolder
    from segmnv2.inference.overlay import DEFAULT_OPACITY
    from segmnv2.inference.predictor import Predictor

    refuse_options(others, "segmentation networks", "leave it out, or give a detector's weights")
    opacity = DEFAULT_OPACITY if options["--opacity"] is None else options["--opacity"]
    results = ResultFolder(out, overlay, options["--confidence"], opacity)
    size = DEFAULT_SIZE if options["--size"] is None else parse_size(options["--size"])
    scales = options["--multi-scale"], options["--flip"]
    predictor = Predictor.load(
        weights,
        device,
        options["--output-stride"],
        size,
        *scales,
        backend=options["--backend"] or "torch",
        precision=options["--precision"] or "float32",
        threads=options["--threads"],
        calibration=options["--calibration"],
    )
    return predictor, results.write, results.subfolders


def _detector(
    weights: Path, out: Path, overlay: bool, device: str, others: dict[str, Any], options: dict[str, Any]
) -> Prepared:
    from segmnv2.cli.options import refuse_options
    from segmnv2.detection.predictor import THRESHOLD, BoxFolder, BoxPredictor

    refuse_options(others, "detectors", "leave it out, or give a segmentation network's weights")
    threshold = THRESHOLD if options["--threshold"] is None else options["--threshold"]
    results = BoxFolder(out, overlay)
    return BoxPredictor.load(weights, threshold=threshold, device=device), results.write, results.subfolders
