"""Annotation files in COCO's format, read record by record and checked."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from segmnv2.data.sample import Image
from segmnv2.errors import DatasetError
from segmnv2.files.documents import iterate_records

REACH = 1e6
"""Largest coordinate and side, in pixels."""

Id = Annotated[int, Field(ge=0, lt=2**63)]
Side = Annotated[int, Field(gt=0, le=REACH)]
Coordinate = Annotated[float, Field(ge=-REACH, le=REACH, allow_inf_nan=False)]
Area = Annotated[float, Field(ge=0, le=REACH**2, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]


def _check_sides(box: list[float]) -> list[float]:
    if min(box[2:]) < 0:
        raise ValueError("the width or height is negative: give [left, top, width, height]")
    return box


class CocoRecord(BaseModel):
    """A record with an id; unknown fields are ignored."""

    model_config = ConfigDict(strict=True)

    id: Id


class CocoImage(CocoRecord):
    """An image: its path relative to the folder of images, and its height and width in pixels."""

    file_name: Text
    height: Side
    width: Side


class CocoCategory(CocoRecord):
    """A category."""

    name: Text


class CocoBox(CocoRecord):
    """An instance as a box: left, top, width and height in pixels."""

    image_id: Id
    category_id: Id
    bbox: Annotated[list[Coordinate], Field(min_length=4, max_length=4), AfterValidator(_check_sides)]
    area: Area | None = None
    iscrowd: Annotated[int, Field(ge=0, le=1, strict=False)] = 0


class CocoOutline(CocoRecord):
    """An instance as polygons or run lengths, which are checked when they are drawn."""

    image_id: Id
    category_id: Id
    segmentation: Any
    area: Area


REMEDY = "give annotations of instances in COCO's format, or unpack them again from COCO's archive"


def iterate_coco(path: Path, annotation: type[CocoBox] | type[CocoOutline]) -> Iterator[tuple[str, Any]]:
    """Yield all records one by one, each with the name of its part: ``images``, ``categories`` or ``annotations``.

    All records of ``train2017`` at once would take three gigabytes of memory.

    Raises:
        DatasetError: the file cannot be read; a part is missing; a field is missing or of another type; an id occurs
            twice; or an annotation belongs to no image.
    """
    kinds: dict[str, type[CocoRecord]]
    kinds = {"images": CocoImage, "categories": CocoCategory, "annotations": annotation}
    ids: dict[str, set[int]] = {}
    owners: set[int] = set()
    try:
        for part, value in iterate_records(path.read_text(encoding="utf-8-sig")):
            if part not in kinds:
                continue
            known = ids.setdefault(part, set())
            if value == []:
                continue
            record = _record(kinds[part], value, f"{path}: {part}[{len(known)}]")
            if record.id in known:
                raise DatasetError(f"{path}: the id {record.id} occurs twice in {part!r}; give each record its own id")
            known.add(record.id)
            if isinstance(record, CocoBox | CocoOutline):
                owners.add(record.image_id)
            yield part, record
    except DatasetError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error)[:200]
        raise DatasetError(f"{path}: cannot be read as a JSON mapping ({reason}), or is truncated; {REMEDY}") from error
    absent = [part for part in kinds if part not in ids]
    if absent:
        raise DatasetError(f"{path}: has no {' and no '.join(map(repr, absent))}; {REMEDY}")
    unknown = owners - ids["images"]
    if unknown:
        raise DatasetError(f"{path}: annotations belong to image {min(unknown)}, which is not in 'images'; {REMEDY}")


def _record(kind: type[CocoRecord], value: Any, source: str) -> CocoRecord:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in first["loc"])
        found = "" if first["type"] == "missing" else f", found {str(first['input'])[:60]!a}"
        raise DatasetError(f"{source}{field}: {first['msg'].lower()}{found}; {REMEDY}") from error


def missing_files(folder: Path, files: Iterable[str]) -> list[str]:
    """Return the files, given as paths relative to a folder, that do not exist."""
    # List each folder once, because one call per file is slow for 100,000 files on a network drive.
    present: dict[str, set[str]] = {}
    missing = []
    for file in files:
        parent, _, name = file.rpartition("/")
        if parent not in present:
            try:
                present[parent] = {entry.name for entry in os.scandir(folder / parent)}
            except (OSError, ValueError):
                present[parent] = set()
        if name not in present[parent]:
            missing.append(file)
    return missing


def check_files(folder: Path, files: list[str], annotations: Path, remedy: str) -> None:
    """Check that all image files exist, and that each belongs to one image of the annotations.

    Raises:
        DatasetError: files are missing, or several images of the annotations have the same file.
    """
    twice = [file for file, count in Counter(files).items() if count > 1]
    if twice:
        raise DatasetError(
            f"{annotations}: 'images' has several entries for {len(twice)} files, the first is {twice[0]!r}; keep one "
            "entry per file, and give all annotations of the file the id of this entry"
        )
    missing = missing_files(folder, files)
    if missing:
        raise DatasetError(
            f"{folder}: {len(missing)} of the {len(files)} images in {annotations} are missing, the first is "
            f"{missing[0]!r}; {remedy}"
        )


def check_size(path: Path, image: Image, height: int, width: int, annotations: Path) -> None:
    """Check that an image has the size in its annotations, so that they fit its pixels.

    Raises:
        DatasetError: the sizes differ.
    """
    if image.shape[:2] == (height, width):
        return
    turned = ", as if it were turned" if image.shape[1::-1] == (height, width) else ""
    raise DatasetError(
        f"{path}: the image has {image.shape[0]} rows and {image.shape[1]} columns (EXIF rotation applied), "
        f"{annotations} states {height} and {width}{turned}; give the images that were annotated, unchanged, or "
        "correct height, width and annotations"
    )
