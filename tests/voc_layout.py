"""Write a data set to disk as PASCAL VOC lays it out."""

from __future__ import annotations

from pathlib import Path

import PIL.Image

from segmnv2.data.mask_file import write_mask
from segmnv2.data.sample import SegmentationDataset
from segmnv2.datasets.voc import IMAGES, LISTS, MASKS
from segmnv2.files.atomic import atomic_path, write_image


def write_voc_layout(dataset: SegmentationDataset, root: str | Path, split: str, *, year: int = 2012) -> Path:
    """Write images, palette masks and the list of a split under ``root/VOC<year>``.

    ``VocSegmentation(root, split, labels=dataset.labels)`` reads it back: masks alike, images but for JPEG's rounding
    (quality 95, full color resolution). The list is written last, so an interrupted call leaves no split that looks
    complete.

    Args:
        dataset: what to write; samples are called by their names, which must differ.
        root: the devkit folder, made when missing; other splits in it stay.
        split: name of the list, as ``train``.
        year: the folder is ``VOC<year>``.

    Returns:
        The folder ``root/VOC<year>``.
    """
    folder = Path(root) / f"VOC{year}"
    names = []
    for index in range(len(dataset)):
        sample = dataset[index]
        picture = PIL.Image.fromarray(sample.image)
        write_image(folder / IMAGES / f"{sample.name}.jpg", picture, "JPEG", quality=95, subsampling=0)
        write_mask(folder / MASKS / f"{sample.name}.png", sample.mask, dataset.labels)
        names.append(sample.name)
    with atomic_path(folder / LISTS / f"{split}.txt") as temporary:
        temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return folder
