"""Label maps of many image files, written to a folder.

``masks/NAME.png``: class ids as palette PNG.
``overlays/NAME.jpg``: the image under its classes' colors, with a legend.
``confidence/NAME.png``: 8-bit gray, 0..255 for a probability of 0..1.

NAME is the image's file name without ending. If several images of a run share it, the ending is added: ``cat_jpg``,
``cat_png``. If they still share a name, their folders are put before it, as many as needed: ``monday_cat_jpg``,
``tuesday_cat_jpg``. If even these are equal, a number is added. Upper and lower case count as the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeVar

from PIL import Image

from segmnv2.engines.backend import check_streams
from segmnv2.errors import ConfigError
from segmnv2.files.atomic import write_image
from segmnv2.files.ownership import LIST
from segmnv2.inference.overlay import DEFAULT_OPACITY, check_opacity, confidence_image
from segmnv2.inference.prediction import Prediction
from segmnv2.media.inputs import find_matches
from segmnv2.media.pipeline import ManyPredictor, check_batch, run_pipeline, run_streams

MASKS, OVERLAYS, CONFIDENCE = "masks", "overlays", "confidence"
BOXES = "boxes"
"""Folder of detectors' boxes. It is defined here because importing detectors is slow."""

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

    path: Path  # the folder; it and its subfolders are created when needed
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
        """Write the requested files of one image, each atomically, and return their paths."""
        paths = [self.path / MASKS / f"{name}.png"]
        with naming_folder(self.path):
            prediction.save_mask(paths[0])
            if self.overlay:
                overlay = prediction.overlay(self.opacity)
                paths.append(save_image(overlay, self.path / OVERLAYS / f"{name}{overlay_ending(overlay)}"))
            if self.confidence:
                gray = Image.fromarray(confidence_image(prediction.confidence))
                paths.append(save_image(gray, self.path / CONFIDENCE / f"{name}.png"))
        return paths


@contextmanager
def naming_folder(folder: Path) -> Iterator[None]:
    """Convert an OSError to a ConfigError that names the folder of results."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{folder}: results cannot be written ({error.strerror or error}); free space there, or choose another "
            "output folder with write access"
        ) from error


@contextmanager
def new_results_folder() -> Iterator[Path]:
    """Yield the first of the folders results, results-2, ... that is new or empty, reserved for this program.

    A hidden file reserves it, so that programs that run at the same time get different folders. After the block, the
    folder is removed if it has no results.

    Raises:
        ConfigError: the current folder cannot be written to.
    """
    for number in count(1):
        folder = Path("results" if number == 1 else f"results-{number}")
        with naming_folder(folder), suppress(FileExistsError):
            folder.mkdir(exist_ok=True)
            with suppress(FileNotFoundError, PermissionError):
                if not any(folder.iterdir()):
                    (folder / LIST).touch(exist_ok=False)
                    break
    try:
        yield folder
    finally:
        with suppress(OSError):
            if not (folder / LIST).stat().st_size:
                (folder / LIST).unlink()
            folder.rmdir()


def without_results(images: Sequence[Path], inputs: Sequence[str | Path]) -> list[Path]:
    """Return the images without those that earlier runs wrote to subfolders of the inputs.

    Args:
        images: image files, see :func:`segmnv2.media.inputs.list_images`.
        inputs: files, folders and patterns from which they come. Results in a folder that is given itself are kept,
            and results that match a pattern without ``**``.

    Raises:
        ConfigError: all images are such results.
    """
    given = {match for item in inputs if "**" not in str(item) for match in find_matches(str(item))}
    parents = {path.parent for path in images} - given
    folders = {path for path in parents if path.name in (MASKS, OVERLAYS, CONFIDENCE) and (path / LIST).is_file()}
    kept = [path for path in images if path.parent not in folders or path in given]
    if images and not kept:
        raise ConfigError(f"{images[0]}: is a result of segmnv2, like all images here; give its folder as an input")
    return kept


def overlay_ending(image: Image.Image) -> str:
    """Return ``.jpg``, or ``.png`` for an image that is too long for JPEG."""
    return ".jpg" if max(image.size) <= JPEG_LONGEST_SIDE else ".png"


def save_image(image: Image.Image, path: Path) -> Path:
    """Write an image atomically, JPEG at quality 95; return its path."""
    if path.suffix == ".jpg":
        return write_image(path, image, "JPEG", quality=95, subsampling=0)
    return write_image(path, image, "PNG")


def infer_files(
    predictor: ManyPredictor[Read, Made],
    paths: Sequence[Path],
    write: Callable[[Made, str], list[Path]],
    on_done: Callable[[Path, str | None], None] = lambda path, failure: None,
    *,
    batch: int = 1,
    streams: int = 1,
) -> InferenceReport:
    """Predict every image; images are read, predicted and written at the same time.

    Files and reports are the same as for one image after another, in the order of ``paths``. An unreadable image is
    reported, and the others are predicted. At most ``streams * batch`` images are in memory; with one stream,
    :func:`segmnv2.media.pipeline.most_held`.

    Args:
        predictor: the model.
        paths: image files.
        write: writes a prediction's files under a name and returns their paths; called in other threads.
        on_done: called after each image with its path and the reason if it failed.
        batch: images to run at once.
        streams: threads, each of which reads, predicts and writes images; as many as the predictor has.

    Raises:
        ConfigError: the results cannot be written or are removed meanwhile, or ``batch`` or ``streams`` is not a
            positive integer. Files that are written before stay.
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
            f"{gone[0]}: was written but does not exist any more, like {len(gone) - 1} other files; the output folder "
            "was removed or changed during the run: run the command again and leave the folder in its place"
        )
    return report


def output_names(paths: Sequence[Path]) -> list[str]:
    """Return a unique name for each path's results, by the rule at the top of this file."""
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
    """Add a number to repeated names: joined with "_", different paths can become equal."""
    taken: set[str] = set()
    result = []
    for name in names:
        free = next(n for n in (name, *(f"{name}_{i}" for i in range(2, len(names) + 2))) if n.casefold() not in taken)
        taken.add(free.casefold())
        result.append(free)
    return result


def _name(path: Path, level: int) -> str:
    """Return the file's name: without ending at level 0, with it at 1, with one more folder at each further level."""
    if level == 0:
        return path.stem
    folders = path.absolute().parent.parts[1:]
    named = folders[max(0, len(folders) - (level - 1)) :] if level > 1 else ()
    return "_".join((*named, path.stem, path.suffix.removeprefix("."))).rstrip("_")
