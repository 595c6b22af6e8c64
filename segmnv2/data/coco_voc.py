"""COCO's instances as masks of VOC's 21 classes, on which the paper's network is trained before VOC."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from segmnv2.data.coco_index import CocoIndex, open_index, pack_instances
from segmnv2.data.coco_instances import class_mask
from segmnv2.data.image_file import read_image
from segmnv2.data.json_records import iterate_records
from segmnv2.data.sample import Sample
from segmnv2.errors import DatasetError
from segmnv2.labels import VOC_LABELS

COCO_CATEGORIES = (
    (5, "airplane"),
    (2, "bicycle"),
    (16, "bird"),
    (9, "boat"),
    (44, "bottle"),
    (6, "bus"),
    (3, "car"),
    (17, "cat"),
    (62, "chair"),
    (21, "cow"),
    (67, "dining table"),
    (18, "dog"),
    (19, "horse"),
    (4, "motorcycle"),
    (1, "person"),
    (64, "potted plant"),
    (20, "sheep"),
    (63, "couch"),
    (7, "train"),
    (72, "tv"),
)
"""COCO's id and name of each VOC class, in the order of ``VOC_LABELS`` without the background."""


class CocoAsVoc:
    """Images of COCO with masks of VOC's 21 classes.

    The rules, by which different code bases differ:

    * The 60 categories that VOC does not have are background.
    * Pixels that instances of different classes claim are ignored (255): COCO does not say which lies in front.
      Torchvision ignores the overlaps of instances of one class as well (two in a thousand labelled pixels of
      ``val2017``); here they keep their class, which is certain.
    * Crowd regions (``iscrowd``) count as their class, as in torchvision: most of their pixels are of it.
    * Kept are the images with more than ``min_pixels`` pixels of VOC's classes. Counted are the areas that the
      annotations state, as in torchvision, not decoded masks: overlaps count twice, but a hundred thousand images are
      chosen without decoding one. Torchvision chooses so for training only; pass 0 to validate on all images.

    Args:
        root: folder that holds ``annotations/instances_<split>.json`` and the folder ``<split>`` of images.
        split: ``train2017`` or ``val2017``; any other that lies there in the same form.
        min_pixels: labelled pixels that an image must exceed; 0 keeps every image, also those without VOC's classes.

    Attributes:
        labels: VOC's classes.
        names: stems of the image files, by rising image id.

    Raises:
        DatasetError: the folder or annotations are missing, damaged or of another form, categories are not those of
            COCO, image files are missing, or no image is left.

    Source: category ids, crowd and area rule as torchvision's ``references/segmentation/coco_utils.py``; 1000 pixels as
        said by DeepLab's authors in tensorflow/models' issues.
    """

    def __init__(self, root: str | Path, split: str = "train2017", *, min_pixels: int = 1000) -> None:
        if min_pixels < 0:
            raise DatasetError(f"min_pixels is {min_pixels}; give 0 (keep all images) or more")
        self.labels = VOC_LABELS
        self.annotations = _find_annotations(Path(root), split)
        self.folder = Path(root) / split
        self._index = open_index(self.annotations) or read_annotations(self.annotations)
        kept = np.flatnonzero(self._index.areas > min_pixels) if min_pixels else np.arange(len(self._index.files))
        self._kept = kept.tolist()
        self._files = [self._index.files[number] for number in self._kept]
        self.names = [Path(file).stem for file in self._files]
        self._check_files(min_pixels, len(self._index.files))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int, /) -> Sample:
        """Read one sample.

        Raises:
            MediaError: the image cannot be read.
            DatasetError: the image has another size than the annotations say, or an outline of it is damaged.
        """
        number = self._kept[index]
        path, (height, width) = self.folder / self._files[index], self._index.sizes[number].tolist()
        image = read_image(path)
        if image.shape[:2] != (height, width):
            raise DatasetError(
                f"{path}: the image has {image.shape[0]} rows and {image.shape[1]} columns (EXIF rotation applied), "
                f"{self.annotations} says {height} and {width}; unpack the image anew from COCO's archive"
            )
        instances = self._index.instances(number)
        mask = class_mask(instances, height, width, VOC_LABELS.ignore_index, source=f"{self.annotations}: {path.name}")
        return Sample(image, mask, self.names[index])

    def _check_files(self, min_pixels: int, total: int) -> None:
        if not self.names:
            raise DatasetError(
                f"{self.annotations}: none of its {total} images has more than {min_pixels} pixels of VOC's classes; "
                "lower min_pixels, 0 keeps all images"
            )
        # Listed once: a hundred thousand files would be as many calls to the file system, slow over a network.
        present = {entry.name for entry in os.scandir(self.folder)} if self.folder.is_dir() else set()
        missing = [file for file in self._files if file not in present]
        if missing:
            raise DatasetError(
                f"{self.folder}: {len(missing)} of the {len(self._files)} images that {self.annotations} names are not "
                f"there, the first is {missing[0]!r}; unpack COCO's {self.folder.name} images into that folder"
            )


def _find_annotations(root: Path, split: str) -> Path:
    folder = root / "annotations"
    path = folder / f"instances_{split}.json"
    if path.is_file():
        return path
    if not folder.is_dir():
        found = "has" if root.is_dir() else "does not exist, so there is"
        raise DatasetError(
            f"{root}: {found} no folder 'annotations'; give the folder that holds COCO's annotations and images"
        )
    present = ", ".join(sorted(file.stem.removeprefix("instances_") for file in folder.glob("instances_*.json")))
    raise DatasetError(
        f"{path}: no such file; the splits present are: {present or 'none'}; unpack COCO's annotation archive there"
    )


def read_annotations(path: Path) -> CocoIndex:
    """Read an annotation file of COCO.

    Of ``train2017`` that takes half a minute and a gigabyte or so: what is written by
    :func:`~segmnv2.data.coco_index.write_index` opens at once.

    Raises:
        DatasetError: the file is damaged or of another form, or its categories are not those of COCO.
    """
    try:
        return _index(path, path.read_text(encoding="utf-8-sig"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DatasetError(
            f"{path}: cannot be read as JSON ({error}); it is damaged or truncated, unpack it anew from COCO's archive"
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(
            f"{path}: is not in the form of COCO's instances ({type(error).__name__}: {error}); give the file "
            f"{path.name} as unpacked from COCO's annotation archive"
        ) from error


def _check_categories(path: Path, categories: list[dict[str, Any]]) -> None:
    """Refuse files with the ids of another data set, which would train without complaint on wrong classes."""
    found = {category["id"]: category["name"] for category in categories}
    wrong = [(number, name, found.get(number)) for number, name in COCO_CATEGORIES if found.get(number) != name]
    if wrong:
        number, name, other = wrong[0]
        raise DatasetError(
            f"{path}: {len(wrong)} of the {len(COCO_CATEGORIES)} categories needed differ from COCO's, as id {number}, "
            f"which is {other!r} in place of {name!r}; give COCO's own annotations, with ids 1 to 90"
        )


def _index(path: Path, text: str) -> CocoIndex:
    if text[:64].lstrip()[:1] not in ("", "{"):
        raise DatasetError(
            f"{path}: holds a {type(json.loads(text)).__name__}; give COCO's mapping of images and annotations"
        )
    classes = {number: index for index, (number, _) in enumerate(COCO_CATEGORIES, start=1)}
    found: dict[str, list[dict[str, Any]]] = {"images": [], "categories": []}
    absent = {*found, "annotations"}
    pieces: defaultdict[int, list[bytes]] = defaultdict(list)
    areas: defaultdict[int, float] = defaultdict(float)
    for key, record in iterate_records(text):
        absent.discard(key)
        if record == []:
            continue
        if key in found:
            found[key].append(record)
        elif key == "annotations" and record["category_id"] in classes:
            fields = record["id"], classes[record["category_id"]], record["segmentation"]
            pieces[record["image_id"]].append(json.dumps(fields, separators=(",", ":")).encode())
            areas[record["image_id"]] += float(record["area"])
    if absent:
        raise KeyError(*sorted(absent))
    _check_categories(path, found["categories"])
    return pack_instances(found["images"], pieces, areas)
