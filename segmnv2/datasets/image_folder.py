"""Data sets for classification: a folder of images for each class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from segmnv2.data.image_file import ENDINGS, read_image
from segmnv2.data.sample import LabeledImage
from segmnv2.errors import DatasetError
from segmnv2.files.checksum import is_passed_over

_LISTED = 5


class ImageFolder:
    """Images ``ROOT/CLASS/**/*.jpg`` or with other endings, the layout of torchvision's ``ImageFolder``.

    Classes are the sorted names of folders. Images are read by :func:`segmnv2.data.image_file.read_image`. Hidden files
    and folders are ignored. Any other file without an image's ending is an error, so that no image is skipped silently.

    Attributes:
        folder: the root.
        class_names: names of the classes.
        files: files of all images, class by class, sorted.
        targets: index of the class of each image.

    Raises:
        DatasetError: there is no such folder; it holds no class; a class holds no image; an image is outside of the
            classes; or a file is not an image.
    """

    def __init__(self, root: str | Path) -> None:
        self.folder = Path(root)
        if not self.folder.is_dir():
            raise DatasetError(f"{root}: there is no such folder; give the one that holds a folder for each class")
        with os.scandir(self.folder) as entries:
            present = [entry for entry in entries if not entry.name.startswith(".")]
        names = sorted(entry.name for entry in present if entry.is_dir())
        loose = sorted(entry.name for entry in present if entry.name.lower().endswith(ENDINGS) and entry.is_file())
        if not names:
            raise DatasetError(f"{root}: holds no folders; each class needs one with its images in it")
        if loose:
            raise DatasetError(
                f"{root}: {len(loose)} images are not in the folder of a class ({_some(loose)}); move or remove them"
            )
        self.class_names: tuple[str, ...] = tuple(names)
        self.files: list[str] = []
        self.targets: list[int] = []
        others: list[str] = []
        for target, name in enumerate(names):
            images = _images(self.folder / name, others)
            self.files += images
            self.targets += [target] * len(images)
        if others:
            others = [str(Path(file).relative_to(self.folder)) for file in others]
            raise DatasetError(
                f"{self.folder}: {len(others)} files do not end in {', '.join(ENDINGS)} ({_some(others)}); "
                "rename or remove them"
            )
        filled = set(self.targets)
        empty = [name for index, name in enumerate(self.class_names) if index not in filled]
        if empty:
            raise DatasetError(
                f"{self.folder}: {len(empty)} folders hold no image ({_some(empty)}); each class needs some: fill or "
                "remove them"
            )

    def __len__(self) -> int:
        return len(self.files)

    def identity(self) -> Iterator[str]:
        """Return a line for each image: its path below the folder, and its class."""
        root = str(self.folder)
        return (f"{file.removeprefix(root)} {label}" for file, label in zip(self.files, self.targets, strict=True))

    def changeable_files(self) -> Iterator[Path]:
        """Return the images."""
        return map(Path, self.files)

    def __getitem__(self, index: int, /) -> LabeledImage:
        """Return an image.

        Raises:
            MediaError: it cannot be read.
        """
        path = self.files[index]
        return LabeledImage(read_image(path), self.targets[index], str(Path(path).relative_to(self.folder)))


def _images(folder: Path, others: list[str]) -> list[str]:
    """List the images below a folder, sorted as in torchvision; other files are added to ``others``."""
    images: list[str] = []
    for parent, _, files in sorted(os.walk(folder, onerror=_raise_unlisted, followlinks=True)):
        if f"{os.sep}." in parent[len(str(folder)) :]:  # in a hidden folder
            continue
        for name in sorted(files):
            if is_passed_over(Path(name)):
                continue
            is_image = name.lower().endswith(ENDINGS)
            (images if is_image else others).append(f"{parent}{os.sep}{name}")
    return images


def _raise_unlisted(error: OSError) -> None:
    raise DatasetError(
        f"{error.filename}: cannot be listed ({error.strerror}); make it readable, or remove it"
    ) from error


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
