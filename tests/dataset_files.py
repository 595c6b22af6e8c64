"""Small data sets of each kind, written in their true layouts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import PIL.Image
import yaml

from segmnv2.data.mask_file import write_mask
from segmnv2.datasets.coco_voc import COCO_CATEGORIES
from segmnv2.datasets.dataset_kinds import FileDataset
from segmnv2.datasets.folder import list_folder
from segmnv2.datasets.layouts import ADE20K_LABELS, CITYSCAPES, CITYSCAPES_LABELS
from segmnv2.datasets.shapes import SHAPES_LABELS, Shapes
from segmnv2.labels import VOC_LABELS, LabelSet
from tests.voc_layout import write_voc_layout

Item = TypeVar("Item", covariant=True)

COUNT = 2
SIZE = (48, 64)
SAMPLES = Shapes(COUNT, SIZE, seed=3)
"""What is written: their ids are ids of all label sets."""


def open_folder(root: str | Path, split: str | None = None, *, labels: LabelSet | None = None) -> FileDataset:
    """Open a plain folder as an experiment does, or with other classes."""
    return FileDataset(list_folder(Path(root), split, split or "all", labels=labels))


class _Indexed(Protocol[Item]):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item: ...


def iterate(dataset: _Indexed[Item]) -> Iterator[Item]:
    """Yield what a data set has, in order."""
    return (dataset[index] for index in range(len(dataset)))


def write_shapes(root: Path) -> LabelSet:
    """Write nothing: shapes are drawn."""
    return SHAPES_LABELS


def write_folder(root: Path) -> LabelSet:
    """Write images, masks and labels."""
    for index, sample in enumerate(iterate(SAMPLES)):
        save(root / "images" / f"{index}.png", sample.image)
        write_mask(root / "masks" / f"{index}.png", sample.mask, SHAPES_LABELS)
    (root / "labels.yaml").write_text(yaml.safe_dump(SHAPES_LABELS.to_dict()))
    return SHAPES_LABELS


class _AsVoc(Shapes):
    labels = VOC_LABELS


def write_voc(root: Path) -> LabelSet:
    """Write VOC 2012 with the list val."""
    write_voc_layout(_AsVoc(COUNT, SIZE, seed=3), root, "val")
    return VOC_LABELS


def write_cityscapes(root: Path) -> LabelSet:
    """Write two images of two cities, with all the files that are unpacked beside their masks."""
    numbers = np.full(256, 3, np.uint8)  # "out of roi", which is ignored
    numbers[: len(CITYSCAPES)] = list(CITYSCAPES)
    for index, sample in enumerate(iterate(SAMPLES)):
        city = ("aachen", "bonn")[index]
        stem = f"{city}_00000{index}_000019"
        save(root / "leftImg8bit" / "val" / city / f"{stem}_leftImg8bit.png", sample.image)
        masks = root / "gtFine" / "val" / city
        save(masks / f"{stem}_gtFine_labelIds.png", numbers[sample.mask])
        save(masks / f"{stem}_gtFine_color.png", sample.image)
        (masks / f"{stem}_gtFine_polygons.json").write_text("{}")
    return CITYSCAPES_LABELS


def write_ade20k(root: Path) -> LabelSet:
    """Write two images of the validation set."""
    for index, sample in enumerate(iterate(SAMPLES)):
        stem = f"ADE_val_0000000{index}"
        save(root / "images" / "validation" / f"{stem}.jpg", sample.image)
        ids = np.where(sample.mask == 255, 0, sample.mask + 1).astype(np.uint8)
        save(root / "annotations" / "validation" / f"{stem}.png", ids)
    return ADE20K_LABELS


def write_coco_voc(root: Path) -> LabelSet:
    """Write images of COCO with an instance of each class of the shapes, as runs of its pixels."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, sample in enumerate(iterate(SAMPLES)):
        height, width = sample.mask.shape
        images.append({"id": index, "file_name": f"{index:012d}.jpg", "height": height, "width": width})
        save(root / "val2017" / f"{index:012d}.jpg", sample.image)
        for value in sorted(set(np.unique(sample.mask).tolist()) - {0, 255}):
            inside = (sample.mask == value).ravel("F").astype(int)
            edges = np.flatnonzero(np.diff(inside, prepend=0, append=0))
            counts = [*np.diff(edges, prepend=0).tolist(), int(inside.size - edges[-1])]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": COCO_CATEGORIES[value - 1][0],
                    "segmentation": {"size": [height, width], "counts": counts},
                    "area": int(inside.sum()),
                    "bbox": [0, 0, width, height],
                    "iscrowd": 1,
                }
            )
    (root / "annotations").mkdir(parents=True)
    categories = [{"id": number, "name": name} for number, name in COCO_CATEGORIES]
    values = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(values))
    return VOC_LABELS


WRITERS: dict[str, Callable[[Path], LabelSet]] = {
    "voc": write_voc,
    "folder": write_folder,
    "cityscapes": write_cityscapes,
    "ade20k": write_ade20k,
    "coco_voc": write_coco_voc,
    "shapes": write_shapes,
}
"""Of each kind of data set; returns its classes."""


def save(path: Path, pixels: np.ndarray) -> None:
    """Write an image, JPEG at quality 95."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, quality=95)
