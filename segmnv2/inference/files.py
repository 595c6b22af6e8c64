"""Labels for many image files, written to a folder.

``masks/NAME.png``: class ids as palette PNG.
``overlays/NAME.jpg``: the image under its classes' colors, with a legend.
``confidence/NAME.png``: 8-bit gray, 0..255 for a probability of 0..1.

NAME is the image's file name without ending. Where several images of one run share it, they become NAME_ENDING
(``cat_jpg``, ``cat_png``), and where that is shared too, the names of their folders go before it, as many as it takes
(``monday_cat_jpg``, ``tuesday_cat_jpg``); a number follows in the rare case that even these are equal. Upper and lower
case count as the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from PIL import Image

from segmnv2.engines.backend import check_streams
from segmnv2.errors import ConfigError
from segmnv2.files.atomic import write_image
from segmnv2.inference.overlay import DEFAULT_OPACITY, check_opacity, confidence_picture
from segmnv2.inference.scores import Prediction
from segmnv2.media.pipeline import ManyPredictor, check_batch, run_pipeline, run_streams

MASKS, OVERLAYS, CONFIDENCE = "masks", "overlays", "confidence"
BOXES = "boxes"
"""Folder of detectors' boxes, beside overlays; here, since to import detectors takes as long as torch does."""

JPEG_LONGEST_SIDE = 65500

Read = TypeVar("Read")
Made = TypeVar("Made")


@dataclass
class InferenceReport:
    """Result for each image."""

    written: dict[Path, list[Path]] = field(default_factory=dict)  # image -> the files made from it
    failed: dict[Path, str] = field(default_factory=dict)  # image -> the reason, one message


@dataclass(frozen=True)
class ResultFolder:
    """Folder of results, and the kinds of files to write."""

    path: Path  # the folder; it and its subfolders are made when needed
    overlay: bool = True  # write overlays
    confidence: bool = False  # write confidence maps
    opacity: float = DEFAULT_OPACITY  # of the overlays' colors, 0..1

    def __post_init__(self) -> None:
        check_opacity(self.opacity)

    @property
    def subfolders(self) -> list[Path]:
        """Every folder that results may be in."""
        return [self.path / name for name in (MASKS, OVERLAYS, CONFIDENCE)]

    def write(self, prediction: Prediction, name: str) -> list[Path]:
        """Write the wanted files of one image and return their paths; each appears whole or not at all."""
        paths = [self.path / MASKS / f"{name}.png"]
        with naming_folder(self.path):
            prediction.save_mask(paths[0])
            if self.overlay:
                picture = prediction.overlay(self.opacity)
                paths.append(save_picture(picture, self.path / OVERLAYS / f"{name}{overlay_ending(picture)}"))
            if self.confidence:
                gray = Image.fromarray(confidence_picture(prediction.confidence))
                paths.append(save_picture(gray, self.path / CONFIDENCE / f"{name}.png"))
        return paths


@contextmanager
def naming_folder(folder: Path) -> Iterator[None]:
    """Raise a ConfigError that names the folder of results where they cannot be written."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{folder}: results cannot be written ({error.strerror or error}); free space there, or choose another "
            "output folder that you may write to"
        ) from error


def overlay_ending(picture: Image.Image) -> str:
    """Return ``.jpg``, or ``.png`` for an image that is too long for JPEG."""
    return ".jpg" if max(picture.size) <= JPEG_LONGEST_SIDE else ".png"


def save_picture(picture: Image.Image, path: Path) -> Path:
    """Write an image, whole or not at all, JPEG at quality 95; return its path."""
    if path.suffix == ".jpg":
        return write_image(path, picture, "JPEG", quality=95, subsampling=0)
    return write_image(path, picture, "PNG")


def infer_files(
    predictor: ManyPredictor[Read, Made],
    paths: Sequence[Path],
    write: Callable[[Made, str], list[Path]],
    on_done: Callable[[Path, str | None], None] = lambda path, failure: None,
    *,
    batch: int = 1,
    streams: int = 1,
) -> InferenceReport:
    """Predict for every image, reading the next ones and writing the last ones meanwhile.

    Files and reports are those of one image after another, in the order of ``paths``. An image that cannot be read
    is reported and the others are done. At most ``streams * batch`` images are in memory, with one stream
    :func:`segmnv2.media.pipeline.most_held`.

    Args:
        predictor: the model.
        paths: image files.
        write: writes a prediction's files under a name and returns their paths; called in other threads.
        on_done: called after each image with its path and the reason if it failed.
        batch: images to run at once.
        streams: threads that each take images from their files to their results; those of a predictor with as many.

    Raises:
        ConfigError: the results cannot be written or are removed meanwhile, or ``batch`` or ``streams`` is not a
            positive integer. What was written before stays.
    """
    report = InferenceReport()
    run = run_pipeline if check_streams(streams) == 1 else partial(run_streams, streams=streams)
    outcomes = run(
        zip(paths, output_names(paths), strict=True),
        lambda item: predictor.prepare(item[0]),
        predictor.predict,
        lambda item, made: write(made, item[1]),
        batch=check_batch(batch),
    )
    with closing(outcomes):
        for outcome in outcomes:
            path, failure = outcome.item[0], None
            if outcome.result is None:
                failure = report.failed[path] = str(outcome.failure)
            else:
                report.written[path] = outcome.result
            on_done(path, failure)
    gone = [str(file) for files in report.written.values() for file in files if not file.exists()]
    if gone:
        raise ConfigError(
            f"{gone[0]}: was written and is gone, as are {len(gone) - 1} other files; the output folder was removed or "
            "changed meanwhile: run the command again and leave it in its place"
        )
    return report


def output_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each path's results, no two alike, by the rule at the top of this file."""
    levels = [0] * len(paths)
    while True:
        names = [_name(path, level) for path, level in zip(paths, levels, strict=True)]
        counts = Counter(name.casefold() for name in names)
        longer = [
            level + (counts[name.casefold()] > 1 and level <= len(path.absolute().parts))
            for path, name, level in zip(paths, names, levels, strict=True)
        ]
        if longer == levels:
            return _numbered(names)
        levels = longer


def _numbered(names: Sequence[str]) -> list[str]:
    """Put a number to names that are taken: joining with "_" made one of different paths."""
    taken: set[str] = set()
    result = []
    for name in names:
        free = next(n for n in (name, *(f"{name}_{i}" for i in range(2, len(names) + 2))) if n.casefold() not in taken)
        taken.add(free.casefold())
        result.append(free)
    return result


def _name(path: Path, level: int) -> str:
    """Return the file's name: without ending at level 0, with it at 1, each further level with one folder more."""
    if level == 0:
        return path.stem
    folders = path.absolute().parent.parts[1:]
    named = folders[max(0, len(folders) - (level - 1)) :] if level > 1 else ()
    return "_".join((*named, path.stem, path.suffix.removeprefix("."))).rstrip("_")
