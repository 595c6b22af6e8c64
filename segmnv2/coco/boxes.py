"""Boxes in COCO's format, for detectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from pycocotools.coco import COCO
from torch import Tensor

from segmnv2.coco.annotations import CocoBox, check_files, check_size, iterate_coco
from segmnv2.data.annotated_image import read_annotated_image
from segmnv2.data.sample import Target
from segmnv2.errors import DatasetError, counted

MOST_CLASSES = 4096
"""Limit of category ids. A detector computes a logit for each number up to its largest id."""

_FEWEST_BOXES, _MOST_BOXES = 10, 1000
"""Smallest and largest number of boxes, the first ones of a file, by which their form is checked."""


class CocoBoxes:
    """Images with the boxes of their objects, without crowds and without boxes that have no area in their image.

    Average precision counts neither: it ignores crowds, and ``coco`` does not hold the other boxes.

    Args:
        images: folder of the images; ``file_name`` in the annotations is relative to it.
        annotations: JSON file of instances in COCO's format, of COCO or another data set.

    Attributes:
        coco: the annotations as pycocotools' object; boxes are numbered from 1.
        annotations: the file of the annotations.
        ids: ids of the images, in ascending order.

    Raises:
        DatasetError: a file is missing or damaged; a field has another type; an id, an image's file or a category's
            name occurs twice; there is no image or no category; a category's id is not in 1..4095 (0 is the detectors'
            background); or boxes are corners or shares of the image instead of pixels.

    Source: rules for omitted boxes: ``convert_coco_poly_to_mask`` and
    ``_coco_remove_images_without_annotations`` in torchvision's references/detection/coco_utils.py (images without a
    box are kept here).
    """

    def __init__(self, images: str | Path, annotations: str | Path) -> None:
        self.folder = Path(images)
        for path in (self.folder, Path(annotations)):
            if not path.exists():
                raise DatasetError(f"{path}: does not exist; give the folder of the images and their annotations")
        self.coco = _read(Path(annotations))
        self.annotations = Path(annotations)
        self.ids: list[int] = sorted(self.coco.imgs)
        self._check(str(annotations))
        files = [self.coco.imgs[number]["file_name"] for number in self.ids]
        check_files(self.folder, files, self.annotations, "add them, or remove them from 'images'")

    @classmethod
    def of_split(cls, root: str | Path, split: str) -> CocoBoxes:
        """Open ``train2017`` or ``val2017`` of COCO; ``root`` has ``annotations/`` and the folders of the images."""
        return cls(Path(root) / split, Path(root) / "annotations" / f"instances_{split}.json")

    @property
    def class_names(self) -> dict[int, str]:
        """Categories: id -> name; without id 0, which some tools write as the parent of all categories."""
        return {number: category["name"] for number, category in sorted(self.coco.cats.items()) if number}

    def leave_out_empty(self) -> None:
        """Remove the images without a box that counts, which training cannot use."""
        sizes = {number: (self.coco.imgs[number]["height"], self.coco.imgs[number]["width"]) for number in self.ids}
        self.ids = [number for number in self.ids if len(self._target(number, sizes[number])["boxes"])]

    def check_boxes_to_find(self, indices: Iterable[int]) -> None:
        """Check that detections in some images can be measured.

        Raises:
            DatasetError: no box in these images counts.
        """
        chosen = [self.ids[index] for index in indices]
        if all(box.get("iscrowd") for number in chosen for box in self.coco.imgToAnns[number]):
            where = "" if len(chosen) == len(self) else f" in the {counted(len(chosen), 'image')} to measure on"
            raise DatasetError(
                f"{self.annotations}: has no box within its images except crowds{where}, so nothing can be measured; "
                f"give {'annotations with other boxes' if not where else 'a higher limit, or none'}"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def identity(self) -> Iterator[str]:
        """Return a line for each image: its file, and its boxes."""
        for number in self.ids:
            boxes = [(box["category_id"], box["bbox"], box.get("iscrowd", 0)) for box in self.coco.imgToAnns[number]]
            yield f"{self.coco.imgs[number]['file_name']} {boxes}"

    def changeable_files(self) -> Iterator[Path]:
        """Return the images; the boxes are in :meth:`identity`."""
        return (self.folder / self.coco.imgs[number]["file_name"] for number in self.ids)

    def __getitem__(self, index: int, /) -> tuple[Float[Tensor, "3 h w"], Target]:
        """Return an image, float RGB (3, H, W) in 0..1, and its boxes.

        Raises:
            MediaError: the image cannot be read.
            DatasetError: its size differs from the annotations', or EXIF turns it and its sides do not show whether the
                boxes are turned too.
        """
        pixels, target = self.read(index)
        return pixels.float() / 255, target

    def read(self, index: int) -> tuple[UInt8[Tensor, "3 h w"], Target]:
        """Return the same as ``self[index]``, with the image as uint8 in 0..255, a quarter of the bytes."""
        number = self.ids[index]
        entry = self.coco.imgs[number]
        path = self.folder / entry["file_name"]
        image = read_annotated_image(path, self.annotations)
        check_size(path, image, entry["height"], entry["width"], self.annotations)
        return torch.from_numpy(image).permute(2, 0, 1), self._target(number, image.shape[:2])

    def _target(self, number: int, size: Sequence[int]) -> Target:
        kept: list[dict[str, Any]] = [box for box in self.coco.imgToAnns[number] if not box.get("iscrowd")]
        boxes = np.array([box["bbox"] for box in kept], np.float32).reshape(-1, 4)
        labels = np.array([box["category_id"] for box in kept], np.int64)
        boxes[:, 2:] += boxes[:, :2]  # COCO has width and height
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, size[1])
        boxes[:, 1::2] = boxes[:, 1::2].clip(0, size[0])
        solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return {
            "boxes": torch.from_numpy(boxes[solid]),
            "labels": torch.from_numpy(labels[solid]),
            "image_id": number,
            "name": self.coco.imgs[number]["file_name"],
        }

    def _check(self, source: str) -> None:
        used = {box["category_id"] for box in self.coco.anns.values()}
        names = self.class_names
        if not self.ids or not names:
            raise DatasetError(
                f"{source}: has {len(self.ids)} images and {len(names)} categories; it needs at least one of each"
            )
        odd = sorted(number for number in {*names, *used} if not 1 <= number < MOST_CLASSES and number in used)
        if odd:
            raise DatasetError(
                f"{source}: boxes have the category ids {', '.join(map(str, odd[:5]))}; detectors take 1 to "
                f"{MOST_CLASSES - 1}, and 0 is their background: number the categories from 1"
            )
        unknown = sorted(used - names.keys())
        if unknown:
            raise DatasetError(
                f"{source}: boxes have the category ids {', '.join(map(str, unknown[:5]))}, which are not in "
                "'categories'; add them there"
            )
        twice = [name for name, count in Counter(names.values()).items() if count > 1]
        if twice:
            raise DatasetError(
                f"{source}: several categories are called {twice[0]!r}; give each its own name, or give their boxes "
                "the same category id"
            )
        self._check_boxes(source)

    def _check_boxes(self, source: str) -> None:
        """Raise an error if the first boxes of the file show that boxes are not in COCO's form."""
        first = list(islice(self.coco.anns.values(), _MOST_BOXES))
        boxes = np.array([box["bbox"] for box in first], float).reshape(-1, 4)
        images = [self.coco.imgs[box["image_id"]] for box in first]
        sizes = np.array([(image["width"], image["height"]) for image in images]).reshape(-1, 2)
        outside = (boxes[:, :2] + boxes[:, 2:] > sizes + 2).any(1)
        form = None
        if len(boxes) < _FEWEST_BOXES:
            return
        if boxes.max() <= 1:
            form = "have no value above 1, like shares of the image's sides"
        elif outside.mean() > 0.25 and (boxes[:, 2:] > boxes[:, :2]).all():
            form = f"exceed their images ({outside.mean():.0%} of them), like corners in place of sizes"
        if form:
            raise DatasetError(
                f"{source}: boxes {form}, the first is {first[0]['bbox']}; give each bbox as [left, top, width, "
                "height] in pixels"
            )


class PixelBoxes:
    """The samples of a :class:`CocoBoxes` with uint8 pixels, for training."""

    def __init__(self, dataset: CocoBoxes) -> None:
        """Read from a data set."""
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int, /) -> tuple[UInt8[Tensor, "3 h w"], Target]:
        """Return an image, uint8 RGB (3, H, W), and its boxes; errors are those of the data set."""
        return self.dataset.read(index)


def _is_visible(box: Sequence[float], width: float, height: float) -> bool:
    """Return whether a box has an area within its image, so that a detector can find it."""
    return -box[2] < box[0] < width and -box[3] < box[1] < height and box[2] > 0 < box[3]


def _read(path: Path) -> COCO:
    parts: dict[str, list[Any]] = {"images": [], "categories": [], "annotations": []}
    for part, record in iterate_coco(path, CocoBox):
        fields = vars(record)
        if isinstance(record, CocoBox):
            # COCO's evaluation ignores a box with id 0, and needs areas and crowds. Some tools write areas of 0.
            area = record.area or record.bbox[2] * record.bbox[3]
            fields = {**fields, "id": len(parts[part]) + 1, "area": area}
        parts[part].append(fields)
    sizes = {image["id"]: (image["width"], image["height"]) for image in parts["images"]}
    boxes = parts["annotations"]
    parts["annotations"] = [box for box in boxes if _is_visible(box["bbox"], *sizes[box["image_id"]])]
    coco = COCO()
    coco.dataset = parts
    with redirect_stdout(StringIO()):  # pycocotools prints its progress
        coco.createIndex()
    return coco
