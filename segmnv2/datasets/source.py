"""Base classes of data sets: the section of an experiment that opens one, and samples read from pairs of files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from segmnv2.data.annotated_image import read_annotated_image
from segmnv2.data.mask_file import read_mask
from segmnv2.data.sample import Sample, SegmentationDataset
from segmnv2.datasets.listing import Listing, pair_files
from segmnv2.errors import ConfigError, DatasetError, naming_key
from segmnv2.labels import LabelSet
from segmnv2.section import FilePath, Section


class DataSource(Section):
    """A data set as an experiment names it: base class of all kinds of :data:`segmnv2.datasets.dataset_kinds.DATASETS`.

    Attributes:
        kind: name of the kind.
        evaluation: values of ``segmnv2 evaluate --dataset KIND``, beside ``root`` and ``split``.
        root_is: what ``--root`` is, for messages; ``None`` where there is none.
        canvas: its size in ``segmnv2 evaluate``, by default.
        own_classes: whether ``segmnv2 evaluate`` may take the ids of masks for the network's classes.
    """

    evaluation: ClassVar[Mapping[str, Any]] = {}
    root_is: ClassVar[str | None] = None
    canvas: ClassVar[int | Literal["native"]] = 513
    own_classes: ClassVar[bool] = False

    kind: str

    def open(self, labels: LabelSet | None = None) -> SegmentationDataset:
        """Open the data set.

        Args:
            labels: in place of its own classes; for kinds with ``own_classes`` only.

        Raises:
            DatasetError: it is missing or not complete.
        """
        raise NotImplementedError

    def listing(self, split: str) -> Listing:
        """List what ``check-data`` reads, with all faults of folders and lists.

        Args:
            split: what findings call it.

        Raises:
            DatasetError: there is no such data set, or its classes cannot be read.
        """
        raise NotImplementedError

    @classmethod
    def found_in(cls, root: Path, splits: Sequence[str], labels: Path | None) -> Sequence[DataSource]:
        """Return the sources that ``check-data`` reads in a folder; none where it has another layout.

        Args:
            root: the folder.
            splits: lists; the usual ones by default.
            labels: a YAML file with the classes.
        """
        return ()


def open_dataset(source: DataSource, key: str = "data") -> SegmentationDataset:
    """Open a data set.

    Args:
        source: which one.
        key: where it stands in the experiment, for messages.

    Raises:
        DatasetError: it is missing or not complete.
    """
    with naming_key(f"{key}.root") if source.root_is else nullcontext():
        return source.open()


class FileSource(DataSource):
    """Pairs of files.

    Attributes:
        root: the data set's folder.
        split: which part; ``null`` for all, where there are no parts.
    """

    root: FilePath
    split: str | None = None

    def open(self, labels: LabelSet | None = None) -> FileDataset:
        """Open the data set."""
        return FileDataset(self.listing(self.split or "all"), labels)


class LayoutSource(FileSource):
    """A published data set: its layout and its classes are fixed, and each split is a folder.

    Attributes:
        splits: names of the splits, the one to train on first.
        images_in: folder of the images' splits.
        masks_in: folder of the masks' splits.
        image_end: how images' names end.
        mask_end: how masks' names end; what comes before is the same.
        classes: the classes.
        file_classes: the classes that masks number.
        table: uint8 (256,), of each id in ``file_classes`` the id in ``classes``.
    """

    splits: ClassVar[tuple[str, ...]]
    images_in: ClassVar[str]
    masks_in: ClassVar[str]
    image_end: ClassVar[str]
    mask_end: ClassVar[str]
    classes: ClassVar[LabelSet]
    file_classes: ClassVar[LabelSet]
    table: ClassVar[np.ndarray]

    split: str

    def listing(self, split: str) -> Listing:
        """List the pairs."""
        images, masks = self.root / self.images_in / self.split, self.root / self.masks_in / self.split
        pairs, findings = pair_files(images, self.image_end, masks, self.mask_end, split)
        return Listing(split, self.root, self.classes, pairs, findings, file_labels=self.file_classes, table=self.table)

    @classmethod
    def found_in(cls, root: Path, splits: Sequence[str], labels: Path | None) -> Sequence[LayoutSource]:
        """Return a source for each split of a folder in this layout."""
        present = [name for name in cls.splits if (root / cls.masks_in / name).is_dir()]
        if not present or not (root / cls.images_in).is_dir():
            return ()
        wrong = sorted(set(splits) - set(cls.splits))
        if labels or wrong:
            given = f"--labels {labels}" if labels else f"--split {wrong[0]}"
            raise ConfigError(f"{given}: {root} has fixed classes and the splits {', '.join(cls.splits)}; leave it out")
        return [cls.model_validate({"root": root, "split": name}) for name in splits or present]


class FileDataset:
    """Images and masks in files.

    Args:
        listing: the pairs.
        labels: classes in place of the listing's.

    Attributes:
        labels: the classes.
        folder: the data set's folder.
        names: of the pairs, in order.

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
                image; or EXIF turns the image, and nothing shows whether the mask is turned.
        """
        image_path, mask_path = self.files(index)
        table = self._listing.table
        image = read_annotated_image(image_path, mask_path)
        mask = read_mask(mask_path, self._listing.file_labels or self.labels)
        if image.shape[:2] != mask.shape:
            raise DatasetError(
                f"{mask_path}: the mask has {mask.shape[0]} rows and {mask.shape[1]} columns, its image {image_path} "
                f"{image.shape[0]} and {image.shape[1]} (EXIF rotation applied); make them the same size"
            )
        return Sample(image, mask if table is None else table[mask], self.names[index])
