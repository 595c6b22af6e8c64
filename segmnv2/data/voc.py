"""PASCAL VOC 2012 segmentation, and any data set in its layout."""

from __future__ import annotations

import os
from pathlib import Path

from segmnv2.data.image_file import read_image
from segmnv2.data.mask_file import read_mask
from segmnv2.data.sample import Sample
from segmnv2.data.split_list import read_split_list
from segmnv2.errors import DatasetError
from segmnv2.labels import VOC_LABELS, LabelSet

LISTS = Path("ImageSets", "Segmentation")
IMAGES = "JPEGImages"
MASKS = "SegmentationClass"
SBD_MASKS = "SegmentationClassAug"


class VocSegmentation:
    """Images and masks that a list of VOC names.

    A mask is taken from ``SegmentationClass`` where it exists, else from ``SegmentationClassAug``, where users keep the
    Semantic Boundaries Dataset's masks that make ``train`` (1464 images) into ``train_aug`` (10582).

    Args:
        root: folder ``VOCdevkit``, or ``VOC2012`` in it.
        split: a list in ``ImageSets/Segmentation``: ``train``, ``train_aug``, ``trainval``, ``val``.
        year: which ``VOC<year>`` of the devkit.
        labels: classes of the masks; other than VOC's for your own data in this layout.

    Attributes:
        labels: the classes.
        folder: the ``VOC2012`` folder found.
        names: ids of the images, in the list's order.

    Raises:
        DatasetError: the folder or the list is missing, the list is empty or holds paths, or files that it names are
            missing.
    """

    def __init__(
        self, root: str | Path, split: str = "train", *, year: int = 2012, labels: LabelSet = VOC_LABELS
    ) -> None:
        self.labels = VOC_LABELS if labels == VOC_LABELS else labels  # whose palette and ignore index are known
        self.folder = find_folder(Path(root), year)
        self.names = _read_list(self.folder / LISTS, split)
        _check_files(self.folder, split, IMAGES, self.names, ".jpg", file_names(self.folder / IMAGES))
        own = file_names(self.folder / MASKS)
        sbd = file_names(self.folder / SBD_MASKS)
        _check_files(self.folder, split, f"{MASKS} and {SBD_MASKS}", self.names, ".png", own | sbd)
        self._mask_folders = [MASKS if f"{name}.png" in own else SBD_MASKS for name in self.names]

    def __len__(self) -> int:
        return len(self.names)

    def files(self, index: int) -> tuple[Path, Path]:
        """Return the files of a sample's image and mask."""
        name = self.names[index]
        return self.folder / IMAGES / f"{name}.jpg", self.folder / self._mask_folders[index] / f"{name}.png"

    def __getitem__(self, index: int, /) -> Sample:
        """Read one sample.

        Raises:
            MediaError: the image cannot be read.
            DatasetError: the mask cannot be read, holds ids that are no class, or has another size than the image.
        """
        name = self.names[index]
        image_path, mask_path = self.files(index)
        image, mask = read_image(image_path), read_mask(mask_path, self.labels)
        if image.shape[:2] != mask.shape:
            raise DatasetError(
                f"{mask_path}: the mask has {mask.shape[0]} rows and {mask.shape[1]} columns, its image {image_path} "
                f"{image.shape[0]} and {image.shape[1]} (EXIF rotation applied); make them the same size"
            )
        return Sample(image, mask, name)


def find_folder(root: Path, year: int = 2012) -> Path:
    """Return the folder ``VOC<year>``, which is the root or in it.

    Raises:
        DatasetError: neither holds lists of splits.
    """
    for folder in (root / f"VOC{year}", root):
        if (folder / LISTS).is_dir():
            return folder
    found = "has" if root.exists() else "does not exist, so there is"
    raise DatasetError(
        f"{root}: {found} no {LISTS}, neither in itself nor in VOC{year}; "
        f"give the VOCdevkit folder that holds VOC{year}, as unpacked from the PASCAL VOC archive"
    )


def _read_list(lists: Path, split: str) -> list[str]:
    path = lists / f"{split}.txt"
    if not path.is_file():
        present = ", ".join(sorted(file.stem for file in lists.glob("*.txt"))) or "none"
        hint = "; train_aug comes with the Semantic Boundaries Dataset" if split == "train_aug" else ""
        raise DatasetError(f"{path}: no such list; the splits present are: {present}{hint}")
    return read_ids(path)


def read_ids(path: Path) -> list[str]:
    """Return the image ids in a list.

    Raises:
        DatasetError: as for :func:`~segmnv2.data.split_list.read_split_list`, or an entry is no id.
    """
    names = read_split_list(path)
    for number, name in enumerate(names, start=1):
        if name.split() != [name] or "/" in name or "\\" in name:
            raise DatasetError(f"{path}: entry {number} is {name!r}; give one image id a line, as 2007_000033")
    return names


def file_names(folder: Path) -> set[str]:
    """List a folder once: ten thousand ids would be as many calls to the file system, slow over a network."""
    return {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()


def _check_files(folder: Path, split: str, place: str, names: list[str], suffix: str, present: set[str]) -> None:
    missing = [name + suffix for name in names if name + suffix not in present]
    if missing:
        raise DatasetError(
            f"{folder}: {len(missing)} of the {len(names)} files that the list '{split}' names are not in {place}, "
            f"the first is {missing[0]}; unpack them there or take their ids off {folder / LISTS / split}.txt"
        )
