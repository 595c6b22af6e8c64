"""Preparation of VOC 2012 with ``train_aug`` and of COCO 2017 from the official archives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segmnv2.coco.annotations import check_files, missing_files
from segmnv2.coco.index import CocoIndex, index_path, open_index, write_index
from segmnv2.datasets.coco_voc import read_annotations
from segmnv2.datasets.voc import VocSegmentation
from segmnv2.errors import DatasetError
from segmnv2.files.atomic import check_folder
from segmnv2.files.checksum import Track, untracked
from segmnv2.preparation import published_archives as sources
from segmnv2.preparation.archive import unpack
from segmnv2.preparation.download import check_room, fetch_archive
from segmnv2.preparation.published_archives import Archive
from segmnv2.preparation.sbd import TRAIN_AUG, build_train_aug

VOC_FOLDER = "VOC2012"
SBD_FOLDER = "benchmark_RELEASE"
SPLITS = ("train", "val", "trainval")

MIN_PIXELS = 1000
"""Number of labeled pixels that an image must exceed in the paper's recipe. COCO's index does not depend on it."""


@dataclass(frozen=True)
class Need:
    """A missing part of a data set.

    Attributes:
        target: its folder.
        archive: the archive that contains it.
        reason: the fault, for the message; ``missing`` by default.
        inside: its path in the archive; by default, the folder's name.
        wanted: function that returns whether to unpack a file, from its path below ``inside``.
    """

    target: Path
    archive: Archive
    reason: str = ""
    inside: str = ""
    wanted: Callable[[str], bool] = lambda name: True

    def __str__(self) -> str:
        return f"{self.reason or f'{self.target}: missing'}; it comes with {self.archive}"


def obtain(
    needs: Sequence[Need], folder: Path, *, download: bool, mirror: str | None = None, track: Track = untracked
) -> list[Path]:
    """Return the archives of missing parts; download those that are not in ``folder``.

    Raises:
        ConfigError: a folder cannot be written.
        DatasetError: archives are missing and ``download`` is false, or the disk has no space for them; both are
            checked first. For other reasons see :func:`fetch_archive`.
    """
    for path in (folder, *(need.target for need in needs)) if needs else ():
        check_folder(path)
    absent = [need for need in needs if not (folder / need.archive.name).exists()]
    if absent and not download:
        lines = "\n  ".join(map(str, absent))
        raise DatasetError(f"data is missing:\n  {lines}\nuse --download, or put the archives into {folder}")
    if absent:
        check_room([need.archive for need in absent], folder)
    return [fetch_archive(need.archive, folder, mirror=mirror, track=track) for need in needs]


def _unpack_needs(needs: Sequence[Need], folder: Path, download: bool, mirror: str | None, track: Track) -> list[str]:
    """Unpack missing parts, and return a line for each archive."""
    for need, path in zip(needs, obtain(needs, folder, download=download, mirror=mirror, track=track), strict=True):
        unpack(path, need.target, inside=need.inside or need.target.name, wanted=need.wanted, track=track)
    return [f"unpacked {need.archive.name}" for need in needs]


def prepare_voc(
    root: Path,
    *,
    sbd: Path | None = None,
    archives: Path | None = None,
    download: bool = False,
    mirror: str | None = None,
    track: Track = untracked,
    track_names: Callable[[Sequence[str]], Iterable[str]] = iter,
) -> str:
    """Complete VOC 2012 and ``train_aug``, check them, and return a report in lines.

    Existing files are used unchanged. Missing ones come from the archives, which are downloaded on request. A second
    call only reads the split lists and the names in the folders.

    Args:
        root: folder ``VOCdevkit``, or ``VOC2012`` in it.
        sbd: SBD's folder ``benchmark_RELEASE``, whose masks are then always compared or written. By default,
            ``root/benchmark_RELEASE``, which is used only if ``train_aug`` is not complete.
        archives: folder of existing and downloaded archives; ``root/archives`` by default.
        download: whether to download missing archives.
        mirror: URL of a folder with the same archives, to use in place of the publishers' URLs.
        track: called with bytes, for a progress bar.
        track_names: wrapper of the iterator over the masks to write, for a progress bar.

    Raises:
        DatasetError: archives are missing and ``download`` is false, an archive cannot be downloaded or unpacked, or
            existing files are damaged or incomplete.
    """
    build = sbd is not None or _fault(root, TRAIN_AUG) is not None
    default_sbd, needs = root / SBD_FOLDER, []
    fault = _fault(root, "train", "val")
    if fault is not None:
        folder = _voc_folder(root)
        reason = fault if folder.is_dir() else ""
        needs.append(Need(folder, sources.VOC_2012, reason, inside=f"VOCdevkit/{VOC_FOLDER}"))
    if build and sbd is None and not (default_sbd / "dataset" / "cls").is_dir():
        needs.append(Need(default_sbd, sources.SBD, wanted=_is_sbd_mask_or_list))
    lines = _unpack_needs(needs, archives or root / "archives", download, mirror, track)
    lines += [str(build_train_aug(root, sbd or default_sbd, track=track_names))] if build else []
    folder = _voc_folder(root)
    lines = lines or [f"{folder}: nothing to do"]
    for split in (*SPLITS, TRAIN_AUG):
        if (folder / "ImageSets/Segmentation" / f"{split}.txt").is_file():
            count, official = len(VocSegmentation(folder, split)), sources.VOC_COUNTS[split]
            remark = (
                "as published" if count == official else f"{official} are published, so this is a part, or another list"
            )
            lines.append(f"{split}: {count} images with masks ({remark})")
    return "\n".join(lines)


def _voc_folder(root: Path) -> Path:
    return root if (root / "ImageSets").is_dir() else root / VOC_FOLDER


def _fault(root: Path, *splits: str) -> str | None:
    """Return the first fault of lists; ``None`` if they and all their files exist."""
    try:
        for split in splits:
            VocSegmentation(root, split)
    except DatasetError as error:
        return str(error)
    return None


def _is_sbd_mask_or_list(name: str) -> bool:
    """Return whether a file of SBD is needed: its images are VOC's, and its instances are not used."""
    return name in ("dataset/train.txt", "dataset/val.txt") or (
        name.startswith("dataset/cls/") and name.endswith(".mat")
    )


def prepare_coco(
    root: Path,
    splits: Sequence[str] = ("train2017", "val2017"),
    *,
    archives: Path | None = None,
    download: bool = False,
    mirror: str | None = None,
    track: Track = untracked,
) -> str:
    """Complete splits of COCO, write their indexes, check that all images exist, and return a report.

    ``root`` holds ``annotations`` and the folders of images. The other arguments are those of :func:`prepare_voc`.

    Raises:
        DatasetError: a split is unknown. For other reasons see :func:`prepare_voc`.
    """
    unknown = [split for split in splits if split not in sources.COCO_IMAGES]
    if unknown or not splits:
        raise DatasetError(f"split {', '.join(unknown) or 'none'}: not known; give {' or '.join(sources.COCO_IMAGES)}")
    splits = tuple(dict.fromkeys(splits))
    needs = [need for split in splits if (need := _images_needed(root, split)) is not None]
    absent = [path for split in splits if not (path := _annotations(root, split)).is_file()]
    if absent:
        annotations = Need(
            root / "annotations", sources.COCO_ANNOTATIONS, f"{absent[0]}: missing", wanted=_is_of_instances
        )
        needs.insert(0, annotations)
    lines = _unpack_needs(needs, archives or root / "archives", download, mirror, track)
    return "\n".join([*lines, *(_finish(root, split) for split in splits)])


def _annotations(root: Path, split: str) -> Path:
    return root / "annotations" / f"instances_{split}.json"


def _is_of_instances(name: str) -> bool:
    return name.startswith("instances_") and name.endswith(".json")


def _images_needed(root: Path, split: str) -> Need | None:
    """Return a need if images are missing; without annotations, an existing folder counts as complete."""
    folder, annotations = root / split, _annotations(root, split)
    reason = ""
    if folder.is_dir():
        files = _index(annotations).files if annotations.is_file() else ()
        missing = missing_files(folder, files)
        if not missing:
            return None
        reason = f"{folder}: {len(missing)} of {len(files)} images are missing"
    return Need(folder, sources.COCO_IMAGES[split], reason, wanted=lambda name: name.endswith(".jpg"))


def _index(annotations: Path) -> CocoIndex:
    """Open the index, or write it first."""
    index = open_index(annotations)
    if index is None:
        index = read_annotations(annotations)
        write_index(index, annotations)
    return index


def _finish(root: Path, split: str) -> str:
    """Write the index if needed, check that all images exist, and describe the split."""
    annotations = _annotations(root, split)
    index = _index(annotations)
    count, official = len(index.files), sources.COCO_COUNTS[split]
    remedy = "repeat with the publisher's archive, or with --download to add them"
    check_files(root / split, list(index.files), annotations, remedy)
    return (
        f"{split}: {count} images ({'as published' if count == official else f'{official} are published: a part'}), "
        f"{(index.areas > MIN_PIXELS).sum()} of them with more than {MIN_PIXELS} pixels of VOC's classes; "
        f"index {index_path(annotations)}"
    )
