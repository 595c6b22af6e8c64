"""Data sets by name, their base classes, and the number of images that two data sets share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ValidationError

from segmnv2.data.annotated_image import read_annotated_image
from segmnv2.data.mask_file import read_mask
from segmnv2.data.sample import Sample, SegmentationDataset
from segmnv2.datasets.listing import Listing
from segmnv2.errors import ConfigError, DatasetError, naming_key
from segmnv2.labels import LabelSet
from segmnv2.lazy_registry import Registry
from segmnv2.section import FilePath, Section


class DataSource(Section):
    """A data set in an experiment; base class of all kinds of :data:`DATASETS`.

    Attributes:
        kind: name of the kind.
        evaluation: values of the section in ``segmnv2 evaluate --dataset KIND``, besides ``root`` and ``split``.
        root_is: description of ``--root`` for messages; ``None`` if the kind has no root.
        canvas: default of ``--size`` in ``segmnv2 evaluate``.
        own_classes: whether ``segmnv2 evaluate`` may read the ids of masks as the model's classes.
    """

    evaluation: ClassVar[Mapping[str, Any]] = {}
    root_is: ClassVar[str | None] = None
    canvas: ClassVar[int | Literal["native"]] = 513
    own_classes: ClassVar[bool] = False

    kind: str

    def open(self, labels: LabelSet | None = None) -> SegmentationDataset:
        """Open the data set; ``labels`` replace its own classes if the kind has ``own_classes``.

        Raises:
            DatasetError: it is missing or not complete.
        """
        raise NotImplementedError

    def listing(self, split: str) -> Listing:
        """List the files for ``check-data``, with all faults of folders and lists; ``split`` is its name in findings.

        Raises:
            DatasetError: there is no such data set, or its classes cannot be read.
        """
        raise NotImplementedError

    @classmethod
    def found_in(cls, root: Path, splits: Sequence[str], labels: Path | None) -> Sequence[DataSource]:
        """Return the sources that ``check-data`` reads in a folder; none if the folder has another layout.

        ``splits`` are names of lists; if empty, the default ones. ``labels`` is a YAML file with the classes.
        """
        return ()


def open_dataset(source: DataSource, key: str = "data") -> SegmentationDataset:
    """Open a data set; ``key`` is its key in the experiment, for messages.

    Raises:
        DatasetError: it is missing or not complete.
    """
    with naming_key(f"{key}.root") if source.root_is else nullcontext():
        return source.open()


class FileSource(DataSource):
    """A data set of image and mask files.

    Attributes:
        root: the data set's folder.
        split: name of the part; ``null`` for all images of a data set without parts.
    """

    root: FilePath
    split: str | None = None

    def open(self, labels: LabelSet | None = None) -> FileDataset:
        """Open the data set."""
        return FileDataset(self.listing(self.split or "all"), labels)


class FileDataset:
    """Images and masks in files.

    Args:
        listing: the pairs.
        labels: classes in place of the listing's.

    Raises:
        DatasetError: the listing has faults.
    """

    def __init__(self, listing: Listing, labels: LabelSet | None = None) -> None:
        self._listing = listing.check()
        self.labels = labels or listing.labels
        self.folder = listing.root
        self.names = [pair.name for pair in listing.pairs]

    def __len__(self) -> int:
        return len(self.names)

    def files(self, index: int) -> tuple[Path, Path]:
        """Return the files of a sample's image and mask."""
        pair = self._listing.pairs[index]
        assert pair.mask is not None
        return pair.image, pair.mask

    def list_images(self) -> Iterator[Path]:
        """Return the files of the images."""
        return (pair.image for pair in self._listing.pairs)

    def changeable_files(self) -> Iterator[Path]:
        """Return the files of images and masks."""
        return (file for index in range(len(self)) for file in self.files(index))

    @property
    def mask_folders(self) -> set[Path]:
        """The folders that hold masks."""
        return {pair.mask.parent for pair in self._listing.pairs if pair.mask}

    def __getitem__(self, index: int, /) -> Sample:
        """Read one sample.

        Raises:
            MediaError: the image cannot be read.
            DatasetError: the mask cannot be read, holds ids or colors that are no class, or has another size than the
                image; or EXIF turns the image, and the files do not show whether the mask is turned too.
        """
        image_path, mask_path = self.files(index)
        image = read_annotated_image(image_path, mask_path)
        mask = read_mask(mask_path, self._listing.file_labels or self.labels)
        if image.shape[:2] != mask.shape:
            raise DatasetError(
                f"{mask_path}: the mask has {mask.shape[0]} rows and {mask.shape[1]} columns, its image {image_path} "
                f"{image.shape[0]} and {image.shape[1]} (EXIF rotation applied); make them the same size"
            )
        return Sample(image, self._listing.class_ids(mask), self.names[index])


DATASETS: Registry[type[DataSource]] = Registry(
    "segmnv2.datasets",
    {
        "voc": "voc:VocSource",
        "cityscapes": "layouts:CityscapesSource",
        "ade20k": "layouts:Ade20kSource",
        "folder": "folder:FolderSource",
        "coco_voc": "coco_voc:CocoVocSource",
        "shapes": "shapes:ShapesSource",
    },
)
"""Values of ``kind`` in an experiment's ``data.train`` and ``data.val``; `check-data` tries layouts in this order."""

BOXES, CLASSES = "coco", "image-folder"
"""Values of ``segmnv2 evaluate --dataset`` for detectors and for classifiers."""


def evaluation_source(name: str, root: Path | None, split: str | None) -> DataSource:
    """Return the data set of ``segmnv2 evaluate --dataset NAME``, a key of :data:`DATASETS` with ``-`` or ``_``.

    Raises:
        ConfigError: there is no such kind or split, or the root is missing or not allowed.
    """
    kind = DATASETS.get(name.replace("-", "_"))
    if kind is None:
        names = ", ".join([*(name.replace("_", "-") for name in DATASETS), BOXES, CLASSES])
        raise ConfigError(f"--dataset {name}: is not known; give one of {names}")
    values = {"root": root, "split": split}
    unknown = [f"--{key}" for key, value in values.items() if value is not None and key not in kind.model_fields]
    if unknown:
        raise ConfigError(f"{', '.join(unknown)}: {name} has no such option; leave it out")
    if root is None and kind.root_is:
        raise ConfigError(f"--root is missing; --dataset {name} needs {kind.root_is}")
    given = {key: value for key, value in values.items() if value is not None}
    try:
        return kind.model_validate({"kind": name.replace("-", "_"), **kind.evaluation, **given})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise ConfigError(f"--{fault['loc'][0]} {fault['input']}: {fault['msg'].lower()}") from None


def identify(dataset: Any) -> Iterator[str]:
    """Return a line for each image of a data set: its name, and its class or boxes if these are not in a file.

    Names do not contain the data set's folder, because a data set may be moved. Images without names are generated;
    their settings are in the experiment.
    """
    if hasattr(dataset, "identity"):
        return iter(dataset.identity())
    names = getattr(dataset, "names", None)
    return map(str, range(len(dataset))) if names is None else iter(names)


def file_sizes(dataset: Any) -> Iterator[int]:
    """Return the sizes of the image and mask files, which users may repair or replace while a run is stopped.

    Sizes show nearly every change, and reading them takes a tenth of a second for ten thousand images. Generated images
    have no files.
    """
    for path in dataset.changeable_files() if hasattr(dataset, "changeable_files") else ():
        try:
            yield path.stat().st_size
        except OSError:  # reading it gives the message
            yield -1


def count_shared(train: Any, val: Any) -> int:
    """Return how many images are in both data sets.

    Data sets of files are compared by the paths of their images, others by their folder and :func:`identify`, and
    generated ones by their image size.
    """
    if hasattr(train, "list_images") and hasattr(val, "list_images"):
        return len(set(_resolve(train.list_images())) & set(_resolve(val.list_images())))
    first, second = (
        dataset.folder.resolve() if hasattr(dataset, "folder") else (type(dataset), getattr(dataset, "size", None))
        for dataset in (train, val)
    )
    return len(set(identify(train)) & set(identify(val))) if first == second else 0


def _resolve(files: Iterable[Path]) -> Iterator[Path]:
    """Yield the files with the resolved path of their folder; each folder is resolved once."""
    folders: dict[Path, Path] = {}
    for file in files:
        if file.parent not in folders:
            folders[file.parent] = file.parent.resolve()
        yield folders[file.parent] / file.name


def digest(lines: Iterable[str]) -> str:
    """Return the number of lines and a checksum, such as ``1464 (sha256 0123456789abcdef)``."""
    entries = list(lines)
    checksum = hashlib.sha256("\n".join(entries).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{len(entries)} (sha256 {checksum[:16]})"
