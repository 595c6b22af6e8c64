"""COCO's instances as masks of VOC's 21 classes, the paper's pre-training data."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

import numpy as np

from segmnv2.coco.annotations import CocoCategory, CocoImage, CocoOutline, check_files, check_size, iterate_coco
from segmnv2.coco.index import CocoIndex, class_mask, open_index, pack_instances
from segmnv2.data.annotated_image import read_annotated_image
from segmnv2.data.sample import Sample
from segmnv2.datasets.dataset_kinds import DataSource
from segmnv2.datasets.listing import Finding, Listing, Pair
from segmnv2.errors import DatasetError
from segmnv2.labels import VOC_LABELS, LabelSet
from segmnv2.section import FilePath, Natural

# fmt: off
COCO_CATEGORIES = (
    (5, "airplane"), (2, "bicycle"), (16, "bird"), (9, "boat"), (44, "bottle"),
    (6, "bus"), (3, "car"), (17, "cat"), (62, "chair"), (21, "cow"),
    (67, "dining table"), (18, "dog"), (19, "horse"), (4, "motorcycle"), (1, "person"),
    (64, "potted plant"), (20, "sheep"), (63, "couch"), (7, "train"), (72, "tv"),
)
# fmt: on
"""COCO's id and name of each VOC class, in the order of ``VOC_LABELS`` without the background."""


class CocoVocSource(DataSource):
    """COCO with masks of VOC's 21 classes, the paper's pre-training.

    Attributes:
        root: folder with ``annotations/`` and the images' folders.
        split: ``train2017`` or ``val2017``.
        min_pixels: images with more pixels of VOC's classes than this are used; 0 uses all images.
    """

    evaluation: ClassVar = {"split": "val2017", "min_pixels": 0}  # as in the validation of the first training stage
    root_is: ClassVar = "COCO's folder"

    kind: Literal["coco_voc"] = "coco_voc"
    root: FilePath
    split: str = "train2017"
    min_pixels: Natural = 1000

    def open(self, labels: LabelSet | None = None) -> CocoAsVoc:
        """Open the data set."""
        return CocoAsVoc(self.root, self.split, min_pixels=self.min_pixels)

    def listing(self, split: str) -> Listing:
        """List the images, including missing files, which are reported when they are read."""
        dataset = CocoAsVoc(self.root, self.split, min_pixels=self.min_pixels, check=False)
        pairs = tuple(Pair(file.stem, file, None) for file in dataset.image_files)
        empty = Finding("empty", str(self.root), "holds no images", "give another split", split)
        return Listing(split, self.root, dataset.labels, pairs, () if pairs else (empty,), dataset=dataset)


class CocoAsVoc:
    """Images of COCO with masks of VOC's 21 classes.

    Code bases differ in these rules:

    * The 60 categories that VOC does not have are background.
    * Pixels in instances of different classes are ignored (255), because COCO does not state which is in front.
      Torchvision also ignores overlaps within one class (0.2 % of the labeled pixels of ``val2017``). Here they keep
      their class, which is certain.
    * Crowd regions (``iscrowd``) count as their class, as in torchvision: most of their pixels belong to it.
    * Images with more than ``min_pixels`` pixels of VOC's classes are used. As in torchvision, areas in the annotations
      are counted. So overlaps count twice, but no mask is decoded. Torchvision does this only for training; pass 0 to
      validate on all images.

    Args:
        root: folder that holds ``annotations/instances_<split>.json`` and the folder ``<split>`` of images.
        split: ``train2017`` or ``val2017``; or another split in the same form.
        min_pixels: labeled pixels that an image must exceed; 0 keeps every image, also those without VOC's classes.
        check: whether to raise an error if there are no images or if files are missing.

    Raises:
        DatasetError: the folder or annotations are missing, damaged or of another form; categories are not those of
            COCO; image files are missing; or no image exceeds ``min_pixels``.

    Source: category ids, crowd and area rule from torchvision's ``references/segmentation/coco_utils.py``; 1000 pixels
        from DeepLab's authors in the issues of tensorflow/models.
    """

    def __init__(
        self, root: str | Path, split: str = "train2017", *, min_pixels: int = 1000, check: bool = True
    ) -> None:
        if min_pixels < 0:
            raise DatasetError(f"min_pixels is {min_pixels}; give 0 (keep all images) or more")
        self.labels = VOC_LABELS
        self.annotations = _find_annotations(Path(root), split)
        self.folder = Path(root) / split
        self._index = open_index(self.annotations) or read_annotations(self.annotations)
        kept = np.flatnonzero(self._index.areas > min_pixels) if min_pixels else np.arange(len(self._index.files))
        self._kept = kept.tolist()
        self._files = [self._index.files[number] for number in self._kept]
        self.names = [_name(file) for file in self._files]
        if check and not self.names:
            raise DatasetError(
                f"{self.annotations}: none of its {len(self._index.files)} images has more than {min_pixels} pixels of "
                "VOC's classes; lower min_pixels, 0 keeps all images"
            )
        if check:
            remedy = f"unpack COCO's {self.folder.name} images into that folder"
            check_files(self.folder, self._files, self.annotations, remedy)

    def __len__(self) -> int:
        return len(self.names)

    def changeable_files(self) -> list[Path]:
        """Return the annotation file and the images."""
        return [self.annotations, *(self.folder / file for file in self._files)]

    def __getitem__(self, index: int, /) -> Sample:
        """Read one sample.

        Raises:
            MediaError: the image cannot be read.
            DatasetError: the image's size differs from the annotations', EXIF turns it and keeps its width and height,
                or one of its outlines is damaged.
        """
        number = self._kept[index]
        path, (height, width) = self.folder / self._files[index], self._index.sizes[number].tolist()
        image = read_annotated_image(path, self.annotations)
        check_size(path, image, height, width, self.annotations)
        instances = self._index.instances(number)
        mask = class_mask(instances, height, width, source=f"{self.annotations}: {path.name}")
        return Sample(image, mask, self.names[index])

    @property
    def image_files(self) -> list[Path]:
        """The image files that the annotations name."""
        return [self.folder / file for file in self._files]


def _name(file: str) -> str:
    """Return the name of an image's results: its path without ending, but never one outside of the results folder."""
    path = PurePosixPath(file)
    return path.stem if path.is_absolute() or ".." in path.parts else str(path.parent / path.stem)


def _find_annotations(root: Path, split: str) -> Path:
    folder = root / "annotations"
    path = folder / f"instances_{split}.json"
    if path.is_file():
        return path
    if not folder.is_dir():
        phrase = "has" if root.exists() else "does not exist, so there is"
        raise DatasetError(
            f"{root}: {phrase} no folder 'annotations'; give the folder that holds COCO's annotations and images"
        )
    present = ", ".join(sorted(file.stem.removeprefix("instances_") for file in folder.glob("instances_*.json")))
    raise DatasetError(
        f"{path}: no such file; the splits present are: {present or 'none'}; unpack COCO's annotation archive there"
    )


def read_annotations(path: Path) -> CocoIndex:
    """Read an annotation file of COCO.

    For ``train2017`` this takes half a minute and about a gigabyte of memory. The file of
    :func:`~segmnv2.coco.index.write_index` opens immediately.

    Raises:
        DatasetError: the file is damaged or of another form, or its categories are not those of COCO.
    """
    classes = {number: index for index, (number, _) in enumerate(COCO_CATEGORIES, start=1)}
    images: list[CocoImage] = []
    categories: dict[int, str] = {}
    pieces: defaultdict[int, list[bytes]] = defaultdict(list)
    areas: defaultdict[int, float] = defaultdict(float)
    for _, record in iterate_coco(path, CocoOutline):
        if isinstance(record, CocoImage):
            images.append(record)
        elif isinstance(record, CocoCategory):
            categories[record.id] = record.name
        elif record.category_id in classes:
            fields = record.id, classes[record.category_id], record.segmentation
            pieces[record.image_id].append(json.dumps(fields, separators=(",", ":")).encode())
            areas[record.image_id] += record.area
    _check_categories(path, categories)
    return pack_instances(images, pieces, areas)


def _check_categories(path: Path, present: Mapping[int, str]) -> None:
    """Raise an error for the ids of another data set, because training would silently use wrong classes."""
    wrong = [(number, name, present.get(number)) for number, name in COCO_CATEGORIES if present.get(number) != name]
    if wrong:
        number, name, other = wrong[0]
        raise DatasetError(
            f"{path}: {len(wrong)} of the {len(COCO_CATEGORIES)} categories needed differ from COCO's, such as id "
            f"{number}: {other!r} instead of {name!r}; give COCO's own annotations, with ids 1 to 90"
        )
