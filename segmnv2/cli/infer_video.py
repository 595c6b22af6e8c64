"""``segmnv2 infer`` on a video or a camera."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from segmnv2.counting import counted

if TYPE_CHECKING:
    from segmnv2.cli.infer_setup import Prepared
    from segmnv2.inference.video_source import VideoSource


def pick_video(inputs: Sequence[str]) -> VideoSource | None:
    """Return the video or camera among the inputs, or None if all are images.

    Raises:
        ConfigError: there is one, and it is not alone.
        MediaError: a camera without its number.
    """
    from segmnv2.errors import ConfigError
    from segmnv2.inference.video_source import find_video

    found = [video for video in map(find_video, inputs) if video is not None]
    if found and len(inputs) > 1:
        raise ConfigError(f"{found[0]}: a video or camera is given alone; run the command once for each")
    return found[0] if found else None


def is_overlay_video(source: VideoSource, out: Path, *, overlay: bool | None, confidence: bool) -> bool:
    """Return whether ``out`` is a video of overlays, and not a folder; refuse what cannot be done.

    Args:
        source: the video or camera.
        out: file or folder.
        overlay: whether overlays are requested, or None.
        confidence: whether confidence maps are.

    Raises:
        ConfigError: an option does not fit, or ``out`` cannot be written.
        MediaError: there is no such video.
    """
    from segmnv2.cli.inference_options import refuse_options
    from segmnv2.errors import MediaError
    from segmnv2.files.atomic import check_folder, check_writable
    from segmnv2.inference.video_writer import check_video_ending

    if source.path is not None and not source.path.is_file():
        raise MediaError(f"{source}: there is no such file; check the path")
    if not out.suffix or out.is_dir():
        check_folder(out)
        return False
    unfit = {"--confidence": confidence, "--no-overlay": True if overlay is False else None}
    refuse_options(unfit, "videos of overlays", "leave it out, or give a folder as --out")
    check_writable(check_video_ending(out))
    return True


def infer_one_video(
    prepared: Prepared,
    source: VideoSource,
    out: Path,
    options: Mapping[str, Any],
    *,
    overlay: bool | None,
    confidence: bool,
) -> None:
    """Label a video, into a video of overlays if ``out`` has an ending, else into files for each frame.

    Args:
        prepared: predictor, and what to do with its predictions.
        source: the video or camera.
        out: file or folder.
        options: ``--every``, ``--frames`` and ``--seconds``.
        overlay: whether overlays were requested, or None.
        confidence: whether confidence maps were.

    Raises:
        ConfigError: an option does not fit, or the results cannot be written.
        MediaError: the video cannot be read.
        KeyboardInterrupt: after what was done is printed.
    """
    from segmnv2.cli.progress import image_progress
    from segmnv2.inference.video import VideoReader
    from segmnv2.inference.video_files import frame_files, infer_video, overlay_video

    is_file = is_overlay_video(source, out, overlay=overlay, confidence=confidence)
    every = 1 if options["--every"] is None else options["--every"]
    with VideoReader(source, every=every, frames=options["--frames"], seconds=options["--seconds"]) as video:
        sink = overlay_video(out, video, prepared.draw) if is_file else frame_files(video, prepared.write)
        try:
            with sink as take, image_progress(video.total, "frames") as advance:
                if take.note:
                    print(f"note: {out}: {take.note}", file=sys.stderr)
                infer_video(prepared.predictor, video, take, advance, batch=prepared.batch)
        except KeyboardInterrupt:
            typer.echo(f"{counted(take.count, 'frame')} written to {out}{prepared.engine}")
            raise
        typer.echo(f"{counted(take.count, 'frame')} written to {out}{prepared.engine}")
    if video.fault is not None:
        print(f"error: {video.fault}", file=sys.stderr)
        raise typer.Exit(2)
