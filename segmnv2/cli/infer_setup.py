"""Predictors and drawing for ``segmnv2 infer``, for segmenters and detectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import PIL.Image

    from segmnv2.inference.canvas import Size


@dataclass(frozen=True)
class Prepared:
    """A predictor and its outputs, made from a weights file and options.

    Attributes:
        predictor: prepares and predicts.
        write: writes a prediction's files under a name.
        draw: draws a prediction, of the image's size.
        engine: what runs the network, if that could be chosen.
        streams: images that it computes at once.
    """

    predictor: Any
    write: Callable[[Any, str], list[Path]]
    draw: Callable[[Any], PIL.Image.Image]
    engine: str = ""
    streams: int = 1


def result_folders(out: Path) -> list[Path]:
    """Return the folders that the results of images are written to, by weights of either kind."""
    from segmnv2.inference.files import BOXES, ResultFolder

    return [*ResultFolder(out).subfolders, out / BOXES]


def result_files(out: Path, images: Sequence[Path], *, overlay: bool, confidence: bool) -> list[Path]:
    """Return where the results of images are written, by weights of either kind."""
    from segmnv2.inference.files import BOXES, CONFIDENCE, MASKS, OVERLAYS, output_names

    kinds = {MASKS: ".png", BOXES: ".json", **({OVERLAYS: ".jpg"} if overlay else {})}
    kinds |= {CONFIDENCE: ".png"} if confidence else {}
    return [out / folder / f"{name}{ending}" for name in output_names(images) for folder, ending in kinds.items()]


def check_image_folder(out: Path) -> None:
    """Refuse an ``--out`` that the results of images cannot be written to.

    Raises:
        ConfigError: it is called like an image or a video, is a file, or cannot be written.
    """
    from segmnv2.data.image_file import ENDINGS
    from segmnv2.errors import ConfigError
    from segmnv2.files.atomic import check_folder
    from segmnv2.inference.video_source import VIDEO_ENDINGS

    if out.suffix.lower() in (*ENDINGS, *VIDEO_ENDINGS) and not out.is_dir():
        raise ConfigError(
            f"--out {out}: images have several results, so --out is a folder; give {out.with_suffix('')}, in which the "
            "label map is masks/NAME.png"
        )
    check_folder(out)


def prepare_segmenter(
    weights: Path, out: Path, overlay: bool, device: str, options: dict[str, Any], others: dict[str, Any], images: int
) -> Prepared:
    """Prepare a segmentation network.

    Args:
        weights: its file.
        out: where results go.
        overlay: whether overlays are written.
        device: where to compute.
        options: those of segmentation.
        others: those of detectors, which are refused.
        images: how many are to come; 0 for a video.

    Raises:
        ConfigError: an option is not possible.
        WeightsError: the file is damaged.
    """
    from segmnv2.cli.options import parse_scales, parse_size, refuse_options
    from segmnv2.inference.canvas import DEFAULT_SIZE
    from segmnv2.inference.files import ResultFolder
    from segmnv2.inference.overlay import DEFAULT_OPACITY
    from segmnv2.inference.predictor import Predictor, VideoPredictor
    from segmnv2.inference.smoothing import Smoother, check_share

    refuse_options(others, "segmentation networks", "leave it out, or give a detector's weights")
    if options["--smooth"] is not None:
        check_share(options["--smooth"])
    opacity = DEFAULT_OPACITY if options["--opacity"] is None else options["--opacity"]
    results = ResultFolder(out, overlay, options["--confidence"], opacity)
    size = DEFAULT_SIZE if options["--size"] is None else parse_size(options["--size"])
    scales = parse_scales(options["--scales"], options["--multi-scale"])
    predictor = Predictor.load(
        weights,
        device,
        options["--output-stride"],
        size,
        scales,
        options["--flip"],
        backend=options["--backend"] or "torch",
        precision=options["--precision"] or "float32",
        threads=options["--threads"],
        calibration=options["--calibration"],
        streams=_choose_streams(options, images, size, scales, device),
    )
    smooth = options["--smooth"]
    return Prepared(
        predictor if smooth is None else VideoPredictor(predictor, Smoother(smooth)),
        results.write,
        lambda prediction: prediction.overlay(opacity, legend=False),
        f" ({predictor.backend})",
        predictor.streams,
    )


def _choose_streams(
    options: dict[str, Any], images: int, size: Size, scales: bool | Sequence[float], device: str
) -> int:
    from segmnv2.backends.base import check_threads
    from segmnv2.backends.device import choose_device
    from segmnv2.inference.multi_scale import choose_scales
    from segmnv2.inference.streams import choose_streams

    if options["--streams"] is not None:
        return int(options["--streams"])
    if options["--batch"] not in (None, 1):
        return 1
    side = math.inf if size == "native" else size * max(choose_scales(scales))
    threads = check_threads(options["--threads"])
    backend, precision = options["--backend"] or "torch", options["--precision"] or "float32"
    return choose_streams(images, threads, side, backend, choose_device(device, backend, precision))


def prepare_detector(
    weights: Path, out: Path, overlay: bool, device: str, others: dict[str, Any], options: dict[str, Any], _images: int
) -> Prepared:
    """Prepare a detector; arguments and errors as for a segmentation network, whose options are refused."""
    from segmnv2.cli.options import refuse_options
    from segmnv2.detection.predictor import THRESHOLD, BoxFolder, BoxPredictor

    refuse_options(others, "detectors", "leave it out, or give a segmentation network's weights")
    threshold = THRESHOLD if options["--threshold"] is None else options["--threshold"]
    results = BoxFolder(out, overlay)
    predictor = BoxPredictor.load(weights, threshold=threshold, device=device)
    return Prepared(predictor, results.write, lambda prediction: prediction.overlay())
