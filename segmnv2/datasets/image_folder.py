"""Images to classify: a folder for each class."""

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
    """``ROOT/CLASS/**/*.jpg`` and other images, as torchvision's ``ImageFolder`` has them.

    Classes are the folders' names, sorted. Images are read as every image here: upright, RGB, or one clear error.
    Hidden files and folders are ignored; a file that is no image by its name is an error, so that none
    is skipped silently.

    Attributes:
        folder: the root.
        class_names: one a class.
        files: files of all images, class by class, sorted.
        targets: their classes.

    Raises:
        DatasetError: there is no such folder, it holds no class, a class holds no image, an image is in no class, or a
            file is no image.
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
                f"{root}: {len(loose)} images are in no class's folder ({_some(loose)}); move or remove them"
            )
        self.class_names: tuple[str, ...] = tuple(names)
        self.files: list[str] = []
        self.targets: list[int] = []
        strange: list[str] = []
        for target, name in enumerate(names):
            images = _images(self.folder / name, strange)
            self.files += images
            self.targets += [target] * len(images)
        if strange:
            strange = [str(Path(file).relative_to(self.folder)) for file in strange]
            raise DatasetError(
                f"{self.folder}: {len(strange)} files are no images by their names ({_some(strange)}); images end in "
                f"{', '.join(ENDINGS)}: rename or remove them"
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

    def __getitem__(self, index: int, /) -> LabeledImage:
        """Return an image.

        Raises:
            MediaError: it cannot be read.
        """
        path = self.files[index]
        return LabeledImage(read_image(path), self.targets[index], str(Path(path).relative_to(self.folder)))


def _images(folder: Path, strange: list[str]) -> list[str]:
    """List the images below a folder, sorted as torchvision's; files that are no images are added to ``strange``."""
    found: list[str] = []
    for parent, _, files in sorted(os.walk(folder, onerror=_refuse, followlinks=True)):
        if f"{os.sep}." in parent[len(str(folder)) :]:  # in a hidden folder
            continue
        for name in sorted(files):
            if is_passed_over(Path(name)):
                continue
            is_image = name.lower().endswith(ENDINGS)
            (found if is_image else strange).append(f"{parent}{os.sep}{name}")
    return found


def _refuse(error: OSError) -> None:
    raise DatasetError(
        f"{error.filename}: cannot be listed ({error.strerror}); make it readable, or remove it"
    ) from error


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
