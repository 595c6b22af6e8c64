"""``segmnv2 infer``: label maps, overlays and confidence maps of images and videos, or boxes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segmnv2.cli.infer_setup import (
    Findings,
    Prepared,
    Results,
    check_image_folder,
    infer_one_video,
    is_overlay_video,
    pick_video,
    prepare_detector,
    prepare_segmenter,
    result_files,
    result_folders,
    show_overlays,
)
from segmnv2.cli.inference_options import (
    ENGINES,
    SEGMENTERS,
    InferenceArguments,
    check_inputs,
    refuse_options,
    takes_inference,
)
from segmnv2.cli.output import byte_progress, image_progress
from segmnv2.errors import counted
from segmnv2.files.ownership import check_replaceable, protect

if TYPE_CHECKING:
    from segmnv2.media.inputs import VideoSource


@takes_inference(*SEGMENTERS, *ENGINES, "batch", "streams")
def infer(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders of images, or quoted patterns such as 'images/*.jpg'. A named file may have any "
            "ending. Or one video, or a camera: camera:0, or 0 if no file has that name.",
            show_default=False,
        ),
    ],
    weights: Annotated[
        Path,
        typer.Option(
            help="Model file (.safetensors) of `segmnv2 import` or of training, a name of `segmnv2 weights`, or "
            "owner/name on the Hugging Face Hub.",
        ),
    ] = Path("voc_mobilenet_v2"),
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for masks/NAME.png, overlays/NAME.jpg and confidence/NAME.png; for detectors boxes/NAME.json "
            "and overlays/NAME.jpg. Earlier results of this command are replaced. If two images have the same NAME, "
            "it becomes NAME_ENDING or FOLDER_NAME_ENDING. For a video: a file (.mp4, .mov, .mkv, .avi) for a video "
            "of overlays, or a folder for masks/NAME_000001.png and so on.",
            show_default="results, or results-2 and so on if that is not empty; for a video NAME.mp4 in it",
        ),
    ] = None,
    overlay: Annotated[
        bool | None,
        typer.Option(
            "--overlay/--no-overlay",
            help="Write overlays with a legend, or with boxes.",
            show_default="overlay; no-overlay for a folder of video frames",
        ),
    ] = None,
    opacity: Annotated[
        float | None, typer.Option(help="Opacity of the overlays' colors, 0 to 1.", show_default="0.6")
    ] = None,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Write confidence maps: gray 0 to 255 is probability 0 to 1.")
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(help="Detectors only: minimum score of a box, 0 to 1.", show_default="0.5"),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Search subfolders too, except those of the results.")
    ] = False,
    smooth: Annotated[
        float | None,
        typer.Option(help="Videos only: weight of earlier frames in the labels of a frame, 0 to 1.", show_default="0"),
    ] = None,
    every: Annotated[
        int | None,
        typer.Option(metavar="N", help="Videos only: label every N-th frame and skip the others.", show_default="1"),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Show the overlays of the first ten images in the terminal.")
    ] = False,
    frames: Annotated[int | None, typer.Option(metavar="N", help="Videos only: stop after N labeled frames.")] = None,
    seconds: Annotated[float | None, typer.Option(metavar="S", help="Videos only: stop after S seconds.")] = None,
    *,
    inference: InferenceArguments,
) -> None:
    """Label every pixel of images or of a video; with a detector's weights, find boxes instead.

    An image that cannot be read is reported, the others are labeled, and the exit code is 2. A camera is recorded until
    --frames, --seconds or Ctrl-C stops it.
    """
    from segmnv2.hub.resolve import resolve_weights
    from segmnv2.inference.files import without_results
    from segmnv2.media.inputs import describe_others, list_images, list_others
    from segmnv2.models.model_file import read_kind

    video = pick_video(inputs)
    with _default_output(video) if out is None else nullcontext(out) as target:
        if video is None:
            video_options = {"smooth": smooth, "every": every, "frames": frames, "seconds": seconds}
            refuse_options("images", "leave it out, or give one video or camera", **video_options)
        else:
            refuse_options("videos", "leave it out", recursive=recursive, streams=inference.streams, show=show)
        check_inputs({"--calibration": inference.calibration})
        protect(path for path in inputs if Path(path).is_file())
        if video is None:
            check_image_folder(target)
        is_file = video is not None and is_overlay_video(video, target, overlay=overlay, confidence=confidence)
        own = result_folders(target)
        listed = [] if video else list_images(inputs, recursive=recursive, exclude=own)
        paths = without_results(listed, inputs)
        protect(paths)
        draws = overlay if overlay is not None else video is None or is_file
        if not draws:
            refuse_options("results without overlays", "leave it out, or give --overlay", opacity=opacity, show=show)
        check_replaceable(result_files(target, paths, overlay=draws, confidence=confidence))
        weights = resolve_weights(weights, track=byte_progress)
        results = Results(target, draws, opacity, confidence, smooth)
        if read_kind(weights) == "detector":
            prepared = prepare_detector(weights, results, inference, threshold)
        else:
            refuse_options("segmentation models", "leave it out, or give a detector's weights", threshold=threshold)
            prepared = prepare_segmenter(weights, results, inference, len(paths))
        if video is not None:
            from segmnv2.media.video_reader import VideoReader

            reader = VideoReader(video, every=1 if every is None else every, frames=frames, seconds=seconds)
            infer_one_video(prepared, reader, target, is_file=is_file)
        else:
            others = list_others(inputs, recursive=recursive, exclude=own)
            note = f"; {counted(len(others), 'other file')} skipped: {describe_others(others)}" if others else ""
            if earlier := sorted(set(listed) - set(paths)):
                note += f"; {counted(len(earlier), 'earlier result')} skipped, such as {earlier[0]}"
            _infer_images(prepared, paths, target, note, show=show)


@contextmanager
def _default_output(video: VideoSource | None) -> Iterator[Path]:
    """Yield a new folder of results, or a video's file in it."""
    from segmnv2.inference.files import new_results_folder

    with new_results_folder() as folder:
        yield folder if video is None else folder / f"{video.stem}.mp4"


def _infer_images(prepared: Prepared, paths: list[Path], out: Path, note: str, *, show: bool) -> None:
    from segmnv2.inference.files import OVERLAYS, infer_files, output_names

    done = failed = 0
    found = Findings(prepared, dict(zip(output_names(paths), paths, strict=True)))

    with image_progress(len(paths)) as advance:

        def on_done(path: Path, failure: str | None) -> None:
            nonlocal done, failed
            done, failed = done + 1, failed + (failure is not None)
            if failure is not None:
                print(f"error: {failure}", file=sys.stderr)
            advance()

        try:
            report = infer_files(
                prepared.predictor, paths, found.write, on_done, batch=prepared.batch, streams=prepared.streams
            )
        except KeyboardInterrupt:
            typer.echo(f"{done - failed} written to {out}, {failed} failed, of {len(paths)} images{prepared.engine}")
            raise
    written = {file for files in report.written.values() for file in files}
    possible = result_files(out, paths, overlay=True, confidence=True)
    if older := [file for file in possible if file not in written and file.exists()]:
        print(f"note: {counted(len(older), 'file')} of an earlier run kept, such as {older[0]}", file=sys.stderr)
    typer.echo(f"{len(report.written)} written to {out}, {len(report.failed)} failed{prepared.engine}{note}")
    for line in found.lines():
        typer.echo(line)
    if show:
        show_overlays([file for files in report.written.values() for file in files if file.parent.name == OVERLAYS])
    if report.failed:
        raise typer.Exit(2)
