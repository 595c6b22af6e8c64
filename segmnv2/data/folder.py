"""Your own data set: a folder of images beside a folder of masks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from segmnv2.data.image_file import ENDINGS, read_image
from segmnv2.data.mask_file import BINARY_PALETTE, read_mask
from segmnv2.data.sample import Sample
from segmnv2.data.split_list import read_split_list
from segmnv2.errors import ConfigError, DatasetError
from segmnv2.labels import LabelSet

IMAGES = "images"
MASKS = "masks"
LABELS = "labels.yaml"
SPLITS = "splits"
MASK_ENDINGS = (".png",)

_SYSTEM_FILES = ("Thumbs.db", "desktop.ini")
_LISTED = 5


class FolderSegmentation:
    """Pairs of ``images/STEM.*`` and ``masks/STEM.png``, with the classes of ``labels.yaml``.

    Masks are palette or 8-bit gray PNGs of class ids. Where the labels give a palette, they may also be RGB PNGs in
    exactly its colors; see :func:`segmnv2.data.mask_file.mask_ids`. Hidden files are ignored; anything else that does
    not belong is an error, so that no image is left out in silence.

    Args:
        root: the folder that holds ``images``, ``masks``, ``labels.yaml`` and perhaps ``splits``.
        split: a list ``splits/NAME.txt``, one stem a line; ``None`` takes all pairs.
        labels: classes in place of those of ``labels.yaml``, which is then not read.

    Attributes:
        labels: the classes.
        folder: the root.
        names: stems, sorted or in the list's order.

    Raises:
        DatasetError: a folder, ``labels.yaml`` or the list is missing or cannot be used, a file has no partner, two
            files have one stem, or the list names stems that are not there or one twice.
    """

    def __init__(self, root: str | Path, split: str | None = None, *, labels: LabelSet | None = None) -> None:
        self.folder = Path(root)
        if not self.folder.is_dir():
            raise DatasetError(f"{root}: there is no such folder; give the one that holds {IMAGES} and {MASKS}")
        self._images = _files_by_stem(self.folder / IMAGES, ENDINGS)
        self._masks = _files_by_stem(self.folder / MASKS, MASK_ENDINGS)
        _check_pairs(self.folder, self._images, self._masks)
        self.labels = labels or read_labels(self.folder / LABELS)
        self.names = sorted(self._images) if split is None else _read_split(self.folder, split, self._images)

    def __len__(self) -> int:
        return len(self.names)

    def files(self, index: int) -> tuple[Path, Path]:
        """Return the files of a sample's image and mask."""
        return self._images[self.names[index]], self._masks[self.names[index]]

    def __getitem__(self, index: int, /) -> Sample:
        """Read one sample.

        Raises:
            MediaError: the image cannot be read.
            DatasetError: the mask cannot be read, holds ids or colors that are no class, or has another size than the
                image.
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


def list_entries(folder: Path) -> list[tuple[Path, bool]]:
    """Return the entries of a folder, sorted, and whether each is a folder; without a call to the file system each."""
    with os.scandir(folder) as entries:
        return sorted((Path(entry.path), entry.is_dir()) for entry in entries)


def is_passed_over(path: Path) -> bool:
    """Return whether a file in ``images`` or ``masks`` is a hidden one or an operating system's own."""
    return path.name.startswith(".") or path.name in _SYSTEM_FILES


def _files_by_stem(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """List a folder; the keys are names without ending."""
    if not folder.is_dir():
        raise DatasetError(
            f"{folder}: there is no such folder; a data set has {IMAGES}/NAME.jpg and {MASKS}/NAME.png, "
            "one mask for each image"
        )
    found: dict[str, Path] = {}
    for path, is_folder in list_entries(folder):
        if is_passed_over(path):
            continue
        if path.suffix.lower() not in endings or is_folder:
            kind = "is a folder" if is_folder else f"has the ending '{path.suffix}'"
            raise DatasetError(
                f"{path}: {kind}; {folder.name}/ holds files ending in {', '.join(endings)} only: "
                "convert it, or move it elsewhere"
            )
        if path.stem in found:
            raise DatasetError(
                f"{path}: has the same name but for its ending as {found[path.stem].name}; the name pairs image and "
                "mask, so each may occur once: rename one of the two, and its partner"
            )
        found[path.stem] = path
    if not found:
        raise DatasetError(f"{folder}: is empty; put files ending in {', '.join(endings)} there")
    return found


def _check_pairs(root: Path, images: Iterable[str], masks: Iterable[str]) -> None:
    lonely_images = sorted(set(images) - set(masks))
    lonely_masks = sorted(set(masks) - set(images))
    troubles = []
    if lonely_images:
        troubles.append(f"{len(lonely_images)} in {IMAGES}/ have no mask ({_some(lonely_images)})")
    if lonely_masks:
        troubles.append(f"{len(lonely_masks)} in {MASKS}/ have no image ({_some(lonely_masks)})")
    if troubles:
        raise DatasetError(
            f"{root}: {' and '.join(troubles)}; image and mask are {IMAGES}/NAME.jpg and {MASKS}/NAME.png with the "
            "same NAME, capitals included: rename, add or move away these files"
        )


def read_labels(path: Path) -> LabelSet:
    """Read ``labels.yaml``.

    Raises:
        DatasetError: the file is missing or cannot be used, or names a single class.
    """
    if not path.is_file():
        raise DatasetError(
            f"{path}: there is no such file; it names the classes in the order of their ids, background first, "
            "as in `names: [background, cat, dog]`"
        )
    try:
        labels = LabelSet.from_yaml(path)
    except ConfigError as error:
        raise DatasetError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    if labels.num_classes == 1:
        raise DatasetError(
            f"{path}: names one class, '{labels.names[0]}', and a model needs two; name what is not "
            f"'{labels.names[0]}', too: `names: [background, {labels.names[0]}]`, and for black and white masks (0 and "
            f"255) add `{BINARY_PALETTE}`"
        )
    return labels


def _read_split(root: Path, split: str, present: Iterable[str]) -> list[str]:
    path = root / SPLITS / f"{split}.txt"
    if not path.is_file():
        others = ", ".join(sorted(file.stem for file in path.parent.glob("*.txt"))) or "none"
        raise DatasetError(
            f"{path}: there is no such list; the splits present are: {others}; write one file name without ending "
            "a line, or leave the split out to take all pairs"
        )
    names = read_split_list(path, "file name without ending")
    absent = sorted(set(names) - set(present))
    if absent:
        raise DatasetError(
            f"{path}: {len(absent)} of its {len(names)} entries are not in {IMAGES}/ ({_some(absent)}); "
            "write names without folder and ending, and only of files that are there"
        )
    return names


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
