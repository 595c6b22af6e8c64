"""Predictors, drawing and videos for ``segmnv2 infer``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import typer

from segmnv2.cli.inference_options import InferenceArguments, refuse_options
from segmnv2.cli.output import image_progress
from segmnv2.errors import ConfigError, MediaError, counted
from segmnv2.files.atomic import check_folder, check_writable

if TYPE_CHECKING:
    import PIL.Image

    from segmnv2.detection.box_predictor import BoxPrediction
    from segmnv2.media.inputs import VideoSource
    from segmnv2.media.video_reader import VideoReader

DESCRIBED = 10
"""Largest number of images that are described or shown one by one."""


@dataclass(frozen=True)
class Prepared:
    """A predictor and its outputs, built from a weights file and options.

    Attributes:
        predictor: the predictor.
        write: writes the files of a prediction under a name, and returns their paths.
        draw: returns a prediction as an image of the input's size.
        describe: returns class name -> share of the pixels, or number of boxes, in a prediction.
        engine: description of the engine for messages; empty for detectors, which have only one.
        streams: number of images that are computed at the same time, each in its own thread.
        batch: number of images that are computed in one call.
    """

    predictor: Any
    write: Callable[[Any, str], list[Path]]
    draw: Callable[[Any], PIL.Image.Image]
    describe: Callable[[Any], dict[str, str]]
    engine: str = ""
    streams: int = 1
    batch: int = 1


@dataclass(frozen=True)
class Results:
    """Options of the results.

    Attributes:
        out: folder, or file of a video.
        overlay: whether overlays are written.
        opacity: opacity of the overlays' colors, 0 to 1; ``None`` for the default.
        confidence: whether confidence maps are written.
        smooth: weight of earlier frames in the labels of a frame; ``None`` if not given.
    """

    out: Path
    overlay: bool
    opacity: float | None
    confidence: bool
    smooth: float | None


def result_folders(out: Path) -> list[Path]:
    """Return the folders of the results of images, for segmentation models and detectors."""
    from segmnv2.inference.files import BOXES, ResultFolder

    return [*ResultFolder(out).subfolders, out / BOXES]


def result_files(out: Path, images: Sequence[Path], *, overlay: bool, confidence: bool) -> list[Path]:
    """Return the result files of images, for segmentation models and detectors."""
    from segmnv2.inference.files import BOXES, CONFIDENCE, MASKS, OVERLAYS, output_names

    kinds = {MASKS: ".png", BOXES: ".json", **({OVERLAYS: ".jpg"} if overlay else {})}
    kinds |= {CONFIDENCE: ".png"} if confidence else {}
    return [out / folder / f"{name}{ending}" for name in output_names(images) for folder, ending in kinds.items()]


def check_image_folder(out: Path) -> None:
    """Check that ``--out`` can be the folder of results of images.

    Raises:
        ConfigError: its name has the ending of an image or video, it is a file, or it cannot be written.
    """
    from segmnv2.data.image_file import ENDINGS
    from segmnv2.media.inputs import VIDEO_ENDINGS

    if out.suffix.lower() in (*ENDINGS, *VIDEO_ENDINGS) and not out.is_dir():
        raise ConfigError(
            f"--out {out}: must be a folder, because images have several results; give {out.with_suffix('')}, and the "
            "label map is written to masks/NAME.png in it"
        )
    check_folder(out)


def prepare_segmenter(weights: Path, results: Results, inference: InferenceArguments, images: int) -> Prepared:
    """Prepare a segmentation model.

    Args:
        weights: file of the model.
        results: options of the results.
        inference: options of inference.
        images: number of images; 0 for a video.

    Raises:
        ConfigError: an option is not possible.
        WeightsError: the file is damaged.
    """
    from segmnv2.inference.files import ResultFolder
    from segmnv2.inference.overlay import DEFAULT_OPACITY, share_text
    from segmnv2.inference.predictor import Predictor, VideoPredictor

    smoother = None
    if results.smooth is not None:
        from segmnv2.inference.video_files import Smoother

        smoother = Smoother(results.smooth)  # checks the value before the weights are read
    opacity = DEFAULT_OPACITY if results.opacity is None else results.opacity
    folder = ResultFolder(results.out, results.overlay, results.confidence, opacity)
    options = inference.options()
    options = options.for_images(images) if inference.streams is None else options
    predictor = Predictor.load(weights, options)
    return Prepared(
        predictor if smoother is None else VideoPredictor(predictor, smoother),
        folder.write,
        lambda prediction: prediction.overlay(opacity, legend=False),
        lambda prediction: {name: share_text(share) for name, share in prediction.shares.items()},
        f" ({predictor.backend})",
        options.streams,
        options.batch,
    )


def prepare_detector(
    weights: Path, results: Results, inference: InferenceArguments, threshold: float | None
) -> Prepared:
    """Prepare a detector, and refuse options of segmentation.

    Args:
        weights: file of the detector.
        results: options of the results.
        inference: options of inference; detectors use only the device.
        threshold: minimum score of a box.

    Raises:
        ConfigError: an option is not possible.
        WeightsError: the file is damaged.
    """
    from segmnv2.detection.box_predictor import THRESHOLD, BoxFolder, BoxPredictor

    remedy = "leave it out, or give weights of a segmentation model"
    inference.refuse("detectors", remedy, opacity=results.opacity, confidence=results.confidence, smooth=results.smooth)
    folder = BoxFolder(results.out, results.overlay)
    threshold = THRESHOLD if threshold is None else threshold
    predictor = BoxPredictor.load(weights, threshold=threshold, device=inference.device)
    return Prepared(predictor, folder.write, lambda prediction: prediction.overlay(), _count_boxes)


def _count_boxes(prediction: BoxPrediction) -> dict[str, str]:
    counts = Counter(box["name"] for box in prediction.to_dict()["boxes"])
    return {name: str(count) for name, count in counts.most_common()}


class Findings:
    """Classes in the predictions: those of each image, or for many images the number of images with each class."""

    def __init__(self, prepared: Prepared, images: Mapping[str, Path]) -> None:
        """Start without predictions.

        Args:
            prepared: the functions that write and describe a prediction.
            images: name of the results -> file of the image.
        """
        self._prepared = prepared
        self._images = images
        self._classes: dict[str, dict[str, str]] = {}
        self._counts: Counter[str] = Counter()
        self._lock = Lock()

    def write(self, prediction: Any, name: str) -> list[Path]:
        """Write the files of a prediction, and return their paths. Several threads may call this at once."""
        files, classes = self._prepared.write(prediction, name), self._prepared.describe(prediction)
        with self._lock:
            self._counts.update(classes.keys())
            if len(self._images) <= DESCRIBED:
                self._classes[name] = classes
        return files

    def lines(self) -> list[str]:
        """Return the lines to print."""
        if len(self._images) > DESCRIBED:
            counts = [f"{name} {count}" for name, count in self._counts.most_common()]
            return [f"images with {', '.join(counts)}"] if counts else []
        names = [name for name in self._images if name in self._classes]
        lines = {name: ", ".join(map(" ".join, self._classes[name].items())) for name in names}
        return [f"{self._images[name]}: {line or 'nothing found'}" for name, line in lines.items()]


def show_overlays(files: Sequence[Path]) -> None:
    """Show the first ten images in the terminal, or print a note if standard output is not a terminal."""
    from segmnv2.media.terminal_image import show_image

    if not sys.stdout.isatty():
        print(
            "note: --show: standard output is not a terminal; open the overlays with an image viewer", file=sys.stderr
        )
        return
    for file in files[:DESCRIBED]:
        show_image(file)


def pick_video(inputs: Sequence[str]) -> VideoSource | None:
    """Return the video or camera among the inputs, or None if all are images.

    Raises:
        ConfigError: a video or camera is not the only input.
        MediaError: a camera has no number.
    """
    from segmnv2.media.inputs import find_video

    videos = [video for video in map(find_video, inputs) if video is not None]
    if videos and len(inputs) > 1:
        raise ConfigError(f"{videos[0]}: a video or camera must be the only input; run the command once per video")
    return videos[0] if videos else None


def is_overlay_video(source: VideoSource, out: Path, *, overlay: bool | None, confidence: bool) -> bool:
    """Return whether ``out`` is a video of overlays rather than a folder, and refuse options that do not fit.

    Args:
        source: the video or camera.
        out: file or folder.
        overlay: whether overlays are requested; None if the option was not given.
        confidence: whether confidence maps are requested.

    Raises:
        ConfigError: an option does not fit, or ``out`` cannot be written.
        MediaError: the video does not exist.
    """
    from segmnv2.media.video_writer import check_video_ending

    if source.path is not None and not source.path.is_file():
        raise MediaError(f"{source}: there is no such file; check the path")
    if not out.suffix or out.is_dir():
        check_folder(out)
        return False
    remedy = "leave it out, or give a folder as --out"
    refuse_options("videos of overlays", remedy, confidence=confidence, no_overlay=overlay is False)
    check_writable(check_video_ending(out))
    return True


def infer_one_video(prepared: Prepared, reader: VideoReader, out: Path, *, is_file: bool) -> None:
    """Label a video, and write a video of overlays or the files of each frame.

    Args:
        prepared: the predictor and the writer of its predictions.
        reader: the reader of the video or camera.
        out: file or folder.
        is_file: whether ``out`` is a file; see :func:`is_overlay_video`.

    Raises:
        ConfigError: the results cannot be written.
        MediaError: the video cannot be read.
        KeyboardInterrupt: on Ctrl-C; the number of written frames is printed first.
    """
    from segmnv2.inference.video_files import frame_files, infer_video, overlay_video

    with reader as video:
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
