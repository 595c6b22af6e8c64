"""COCO 2017 for ``kind: coco_voc``, from the official archives to an index of images that are all there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segmnv2.coco.annotations import check_files, missing_files
from segmnv2.coco.index import CocoIndex, index_path, open_index, write_index
from segmnv2.datasets.coco_voc import read_annotations
from segmnv2.errors import DatasetError
from segmnv2.files.reading import Track, untracked
from segmnv2.preparation import published_archives as sources
from segmnv2.preparation.archive import unpack
from segmnv2.preparation.needs import Need, obtain

MIN_PIXELS = 1000
"""Labeled pixels that an image must exceed in the paper's recipe; the index serves any other number too."""


@dataclass(frozen=True)
class CocoSplit:
    """One split, all of whose images are there.

    Attributes:
        name: as ``train2017``.
        images: images in the annotations.
        kept: images with more than :data:`MIN_PIXELS` pixels of VOC's classes.
        index: the file beside the annotations.
    """

    name: str
    images: int
    kept: int
    index: Path

    def __str__(self) -> str:
        official = sources.COCO_COUNTS.get(self.name, self.images)
        remark = "as published" if self.images == official else f"{official} are published: a part"
        return (
            f"{self.name}: {self.images} images ({remark}), {self.kept} of them with more than {MIN_PIXELS} pixels of "
            f"VOC's classes; index {self.index}"
        )


@dataclass(frozen=True)
class CocoPreparation:
    """Result of :func:`prepare_coco`.

    Attributes:
        unpacked: archives unpacked.
        splits: in the requested order.
    """

    unpacked: tuple[str, ...]
    splits: tuple[CocoSplit, ...]

    def __str__(self) -> str:
        return "\n".join([*(f"unpacked {name}" for name in self.unpacked), *map(str, self.splits)])


def prepare_coco(
    root: Path,
    splits: Sequence[str] = ("train2017", "val2017"),
    *,
    archives: Path | None = None,
    download: bool = False,
    mirror: str | None = None,
    track: Track = untracked,
) -> CocoPreparation:
    """Make splits of COCO complete, write their indexes, and check that every image is there.

    What is there is used unchanged; what is not comes from the archives, and these from the network if allowed. A
    second call finds everything done.

    Args:
        root: folder of ``annotations`` and the folders of images.
        splits: ``train2017``, ``val2017``.
        archives: where archives lie or are put; ``root/archives`` by default.
        download: fetch archives that are needed and not there.
        mirror: address of a folder with the same archives, in place of the publisher's.
        track: called with bytes, for a progress bar.

    Raises:
        DatasetError: a split is unknown, something is missing and may not be fetched, an archive cannot be fetched or
            unpacked, or what is there is damaged or incomplete.
    """
    unknown = [split for split in splits if split not in sources.COCO_IMAGES]
    if unknown or not splits:
        raise DatasetError(f"split {', '.join(unknown) or 'none'}: not known; give {' or '.join(sources.COCO_IMAGES)}")
    splits, archives = tuple(dict.fromkeys(splits)), archives or root / "archives"
    needs = [need for split in splits if (need := _images_needed(root, split)) is not None]
    absent = [path for split in splits if not (path := _annotations(root, split)).is_file()]
    if absent:
        needs.insert(0, Need(root / "annotations", sources.COCO_ANNOTATIONS, f"{absent[0]}: missing"))
    for need, path in zip(needs, obtain(needs, archives, download=download, mirror=mirror, track=track), strict=True):
        wanted = _is_of_instances if need.archive is sources.COCO_ANNOTATIONS else _is_image
        unpack(path, need.target, inside=need.target.name, wanted=wanted, track=track)
    unpacked = tuple(need.archive.name for need in needs)
    return CocoPreparation(unpacked, tuple(_finish(root, split) for split in splits))


def _annotations(root: Path, split: str) -> Path:
    return root / "annotations" / f"instances_{split}.json"


def _is_of_instances(name: str) -> bool:
    return name.startswith("instances_") and name.endswith(".json")


def _is_image(name: str) -> bool:
    return name.endswith(".jpg")


def _images_needed(root: Path, split: str) -> Need | None:
    """Return whether images are missing; a folder is believed while there are no annotations to check it by."""
    folder, annotations = root / split, _annotations(root, split)
    if not folder.is_dir():
        return Need(folder, sources.COCO_IMAGES[split])
    if not annotations.is_file():
        return None
    index = _index(annotations)
    missing = missing_files(folder, index.files)
    reason = f"{folder}: {len(missing)} of {len(index.files)} images are missing"
    return Need(folder, sources.COCO_IMAGES[split], reason) if missing else None


def _index(annotations: Path) -> CocoIndex:
    """Open the index, or make and write it."""
    index = open_index(annotations)
    if index is None:
        index = read_annotations(annotations)
        write_index(index, annotations)
    return index


def _finish(root: Path, split: str) -> CocoSplit:
    annotations = _annotations(root, split)
    index = _index(annotations)
    remedy = "repeat with the publisher's archive, or with --download, to have them added"
    check_files(root / split, list(index.files), annotations, remedy)
    return CocoSplit(split, len(index.files), int((index.areas > MIN_PIXELS).sum()), index_path(annotations))
