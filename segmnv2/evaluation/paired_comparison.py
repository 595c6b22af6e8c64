"""Two evaluations of segmentation side by side: gains of IoU with intervals, and the images that changed most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segmnv2.errors import ConfigError, counted, describe_fault
from segmnv2.files.documents import read_json
from segmnv2.labels import table_cell
from segmnv2.metrics.image_counts import ROUNDS, Counts, ImageCounts, count_iou, interval, mean_over_classes, resample

HINT = "give a file that `segmnv2 evaluate --json` wrote for a segmentation model"

SAME = ("dataset", "split", "ignore_index", "absent_classes")
"""Keys of the protocol without which figures do not compare. All others are choices that may be compared."""

Count = Annotated[int, Field(ge=0, lt=2**53)]


class _Image(BaseModel):
    model_config = ConfigDict(strict=True)
    name: str
    counts: dict[str, Annotated[list[Count], Field(min_length=3, max_length=3)]]


class _File(BaseModel):
    """The part of an evaluation's JSON that the comparison needs."""

    model_config = ConfigDict(strict=True)
    iou: Annotated[dict[str, float | None], Field(min_length=1)]
    protocol: dict[str, Any]
    per_image: Annotated[list[_Image], Field(min_length=1)]


@dataclass(frozen=True)
class Gain:
    """A figure before and after, in percent, with the 95 % interval of the difference; NaN where there is none.

    A class that occurs in a single image has no interval.
    """

    name: str
    before: float
    after: float
    low: float = math.nan
    high: float = math.nan

    @property
    def difference(self) -> float:
        """Difference, in points."""
        return self.after - self.before


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison.

    Attributes:
        images: number of images.
        miou: gain of the mIOU.
        classes: gain of each class.
        improved: images with the largest gains of their own mIOU, the largest first.
        worsened: images with the largest losses, the largest first.
        settings: key of the protocol -> its values before and after, where they differ.
    """

    images: int
    miou: Gain
    classes: list[Gain]
    improved: list[Gain]
    worsened: list[Gain]
    settings: dict[str, tuple[Any, Any]]

    def to_markdown(self) -> str:
        """Return tables of classes and images, in percent."""
        lines = ["| class | before % | after % | gain | 95 % interval |", "|---|---:|---:|---:|---:|"]
        lines += [_row(gain) for gain in (*self.classes, self.miou)]
        for title, gains in (("improved most", self.improved), ("worsened most", self.worsened)):
            if gains:
                lines += ["", f"| image that {title} | before % | after % | gain |", "|---|---:|---:|---:|"]
                lines += [_row(gain, bounds=False) for gain in gains]
        verdict = ""
        if math.isnan(self.miou.low):
            verdict = " The mIOU has no interval: no difference is shown."
        elif self.miou.low <= 0 <= self.miou.high:
            verdict = " The interval of the mIOU contains 0: no difference is shown."
        lines += ["", f"{counted(self.images, 'image')}, {ROUNDS} sets drawn with replacement.{verdict}"]
        lines += [f"{key}: {before} before, {after} after." for key, (before, after) in self.settings.items()]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, in percent; ``None`` where there is no figure."""
        return {
            "images": self.images,
            "miou": _values(self.miou),
            "classes": {gain.name: _values(gain) for gain in self.classes},
            "improved": {gain.name: _values(gain) for gain in self.improved},
            "worsened": {gain.name: _values(gain) for gain in self.worsened},
            "settings": {key: {"before": before, "after": after} for key, (before, after) in self.settings.items()},
        }


def compare_evaluations(before: str | Path, after: str | Path, shown: int = 5) -> Comparison:
    """Compare two evaluations of the same images.

    Intervals are paired: both evaluations are resampled with the same images.

    Args:
        before: file of ``segmnv2 evaluate --json``.
        after: another one.
        shown: number of images to list that improved most, and that worsened most.

    Raises:
        ConfigError: a file is missing or is no such evaluation; or the two have other classes, other images, or a
            protocol that does not compare.
    """
    if shown < 0:
        raise ConfigError(f"images: {shown} is negative; give the number of images to list, or 0")
    first, second = (_read(Path(path)) for path in (before, after))
    _check_same(first, second, f"{before} and {after}")
    names = list(first.iou)
    counts = [_counts(each, names, path) for each, path in ((first, before), (second, after))]
    place = {name: number for number, name in enumerate(counts[1].names)}
    pair = counts[0].counts, counts[1].counts[[place[name] for name in counts[0].names]]
    improved, worsened = _changed(counts[0].names, pair, shown)
    return Comparison(len(place), *_gains(names, pair), improved, worsened, _settings(first, second))


def _gains(names: Sequence[str], pair: tuple[Counts, Counts]) -> tuple[Gain, list[Gain]]:
    """Return the gain of the mIOU and those of the classes."""
    before, after = (100 * count_iou(each.sum(0)) for each in pair)
    drawn_before, drawn_after = (100 * count_iou(resample(each)) for each in pair)
    images = (pair[0].any(1) | pair[1].any(1)).sum(0)  # of each class
    classes = []
    for k, name in enumerate(names):
        low, high = interval(drawn_after[:, k] - drawn_before[:, k], int(images[k]))
        classes.append(Gain(name, float(before[k]), float(after[k]), low, high))
    low, high = interval(mean_over_classes(drawn_after) - mean_over_classes(drawn_before), len(pair[0]))
    return Gain("mIOU", float(mean_over_classes(before)), float(mean_over_classes(after)), low, high), classes


def _changed(images: Sequence[str], pair: tuple[Counts, Counts], shown: int) -> tuple[list[Gain], list[Gain]]:
    """Return the images that improved most and those that worsened most, by their own mIOU."""
    before, after = (100 * mean_over_classes(count_iou(each)) for each in pair)
    gains = [Gain(name, float(a), float(b)) for name, a, b in zip(images, before, after, strict=True)]
    improved = sorted((gain for gain in gains if gain.difference > 0), key=lambda gain: -gain.difference)
    worsened = sorted((gain for gain in gains if gain.difference < 0), key=lambda gain: gain.difference)
    return improved[:shown], worsened[:shown]


def _settings(first: _File, second: _File) -> dict[str, tuple[Any, Any]]:
    values = {
        key: (first.protocol.get(key), second.protocol.get(key))
        for key in sorted({*first.protocol, *second.protocol} - {"root"})
    }
    return {key: (before, after) for key, (before, after) in values.items() if before != after}


def _read(path: Path) -> _File:
    values = read_json(path, HINT, ConfigError)
    if isinstance(values, dict) and "iou" in values and "per_image" not in values:
        raise ConfigError(f"{path}: has no counts of each image, as files of earlier versions; evaluate again")
    try:
        file = _File.model_validate(values)
    except ValidationError as error:
        fault = describe_fault(error.errors(include_url=False)[0])
        raise ConfigError(f"{path}: is no evaluation of segmentation ({fault}); {HINT}") from error
    if len({image.name for image in file.per_image}) < len(file.per_image):
        raise ConfigError(f"{path}: two images have one name, so they cannot be paired; rename them and evaluate again")
    return file


def _counts(file: _File, names: list[str], path: str | Path) -> ImageCounts:
    images = ((image.name, image.counts) for image in file.per_image)
    try:
        return ImageCounts.from_list(images, names)
    except KeyError as error:
        raise ConfigError(f"{path}: per_image has the class {error}, which iou has not; {HINT}") from error


def _check_same(first: _File, second: _File, files: str) -> None:
    if list(first.iou) != list(second.iou):
        raise ConfigError(f"{files}: have other classes, or another order of them; evaluate both on the same data set")
    for key in SAME:
        values = first.protocol.get(key), second.protocol.get(key)
        if values[0] != values[1]:
            raise ConfigError(
                f"{files}: {key} is {values[0]!r} in one and {values[1]!r} in the other, so figures do not compare; "
                "evaluate both in the same way"
            )
    names = [{image.name for image in file.per_image} for file in (first, second)]
    if other := sorted(names[0] ^ names[1]):
        raise ConfigError(
            f"{files}: {len(other)} images are in one only, such as {other[0]}; evaluate both on the same images"
        )
    for a, b in zip(*(sorted(each.per_image, key=lambda image: image.name) for each in (first, second)), strict=True):
        true = [{name: counts[1] for name, counts in image.counts.items() if counts[1]} for image in (a, b)]
        if true[0] != true[1]:
            raise ConfigError(f"{files}: the true pixels of {a.name} differ; evaluate both on the same masks")


def _row(gain: Gain, *, bounds: bool = True) -> str:
    cells = [table_cell(gain.name), _text(gain.before), _text(gain.after), _text(gain.difference, "+")]
    if bounds:
        cells.append("" if math.isnan(gain.low) else f"{gain.low:+.2f} to {gain.high:+.2f}")
    return f"| {' | '.join(cells)} |"


def _text(value: float, sign: str = "") -> str:
    return "absent" if math.isnan(value) and not sign else "" if math.isnan(value) else format(value, f"{sign}.2f")


def _values(gain: Gain) -> dict[str, float | None]:
    values = {"before": gain.before, "after": gain.after, "gain": gain.difference, "low": gain.low, "high": gain.high}
    return {key: None if math.isnan(value) else float(value) for key, value in values.items()}
