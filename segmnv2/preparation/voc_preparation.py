"""VOC 2012 with ``train_aug``, from the official archives to lists whose every file is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segmnv2.datasets.voc import VocSegmentation
from segmnv2.errors import DatasetError
from segmnv2.files.reading import Track, untracked
from segmnv2.preparation import published_archives as sources
from segmnv2.preparation.archive import unpack
from segmnv2.preparation.needs import Need, obtain
from segmnv2.preparation.sbd import TRAIN_AUG, TrainAugReport, build_train_aug

VOC_FOLDER = "VOC2012"
SBD_FOLDER = "benchmark_RELEASE"
SPLITS = ("train", "val", "trainval")


@dataclass(frozen=True)
class VocPreparation:
    """Result of :func:`prepare_voc`.

    Attributes:
        folder: the ``VOC2012`` folder.
        unpacked: archives unpacked.
        train_aug: what was built; None if ``train_aug`` was complete.
        counts: images of each list, all of whose files are there.
    """

    folder: Path
    unpacked: tuple[str, ...]
    train_aug: TrainAugReport | None
    counts: dict[str, int]

    def __str__(self) -> str:
        lines = [f"unpacked {name}" for name in self.unpacked]
        lines += [] if self.train_aug is None else [str(self.train_aug)]
        lines += [] if lines else [f"{self.folder}: nothing to do"]
        for split, count in self.counts.items():
            official = sources.VOC_COUNTS[split]
            remark = "as published" if count == official else f"{official} are published: a part, or another list"
            lines.append(f"{split}: {count} images with masks ({remark})")
        return "\n".join(lines)


def prepare_voc(
    root: Path,
    *,
    sbd: Path | None = None,
    archives: Path | None = None,
    download: bool = False,
    mirror: str | None = None,
    track: Track = untracked,
    track_names: Callable[[Sequence[str]], Iterable[str]] = iter,
) -> VocPreparation:
    """Make VOC 2012 and ``train_aug`` complete, and check that they are.

    What is there is used unchanged; what is not comes from the archives, and these from the network if allowed. A
    second call finds everything done and reads the lists and the folders' listings only.

    Args:
        root: folder ``VOCdevkit``, or ``VOC2012`` in it.
        sbd: SBD's folder ``benchmark_RELEASE``, from which masks are then compared or written in any case;
            ``root/benchmark_RELEASE`` by default, and only if ``train_aug`` is not complete.
        archives: where archives lie or are put; ``root/archives`` by default.
        download: fetch archives that are needed and not there.
        mirror: address of a folder with the same archives, in place of the publishers'.
        track: called with bytes, for a progress bar.
        track_names: what the masks to make are iterated through, for a progress bar.

    Raises:
        DatasetError: something is missing and may not be fetched, an archive cannot be fetched or unpacked, or what is
            there is damaged or incomplete.
    """
    archives = archives or root / "archives"
    build = sbd is not None or _fault(root, (TRAIN_AUG,)) is not None
    own_sbd = root / SBD_FOLDER
    needs = []
    fault = _fault(root, ("train", "val"))
    if fault is not None:
        folder = _voc_folder(root)
        needs.append(Need(folder, sources.VOC_2012, fault if folder.is_dir() else ""))
    if build and sbd is None and not (own_sbd / "dataset" / "cls").is_dir():
        needs.append(Need(own_sbd, sources.SBD))
    for need, path in zip(needs, obtain(needs, archives, download=download, mirror=mirror, track=track), strict=True):
        if need.archive is sources.SBD:
            # SBD's images are VOC's own, and its instances are not used.
            unpack(path, need.target, inside=SBD_FOLDER, wanted=_is_sbd_mask_or_list, track=track)
        else:
            unpack(path, need.target, inside=f"VOCdevkit/{VOC_FOLDER}", track=track)
    report = build_train_aug(root, sbd or own_sbd, track=track_names) if build else None
    return VocPreparation(_voc_folder(root), tuple(need.archive.name for need in needs), report, _count(root))


def _voc_folder(root: Path) -> Path:
    return root if (root / "ImageSets").is_dir() else root / VOC_FOLDER


def _fault(root: Path, splits: Sequence[str]) -> str | None:
    """Say what keeps lists from being used; None if every file of them is there."""
    try:
        for split in splits:
            VocSegmentation(root, split)
    except DatasetError as error:
        return str(error)
    return None


def _is_sbd_mask_or_list(name: str) -> bool:
    return name in ("dataset/train.txt", "dataset/val.txt") or (
        name.startswith("dataset/cls/") and name.endswith(".mat")
    )


def _count(root: Path) -> dict[str, int]:
    """Open every list; a missing file is an error."""
    folder = _voc_folder(root)
    lists = [split for split in (*SPLITS, TRAIN_AUG) if (folder / "ImageSets/Segmentation" / f"{split}.txt").is_file()]
    return {split: len(VocSegmentation(folder, split)) for split in lists}
