"""PASCAL VOC 2012 segmentation, and any data set in its layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from segmnv2.datasets.dataset_kinds import FileDataset, FileSource
from segmnv2.datasets.folder import read_labels
from segmnv2.datasets.listing import Finding, Listing, Pair, check_lists, is_image_id, read_names, unknown_names
from segmnv2.errors import DatasetError
from segmnv2.files.checksum import file_names
from segmnv2.labels import VOC_LABELS, LabelSet
from segmnv2.section import FilePath

LISTS = Path("ImageSets", "Segmentation")
IMAGES = "JPEGImages"
MASKS = "SegmentationClass"
SBD_MASKS = "SegmentationClassAug"


class VocSource(FileSource):
    """PASCAL VOC 2012, or your own data in its layout.

    Attributes:
        root: folder ``VOCdevkit``, or ``VOC2012`` itself.
        split: a list in ``ImageSets/Segmentation``.
        labels: YAML file with the names of the classes, background first; ``null`` for VOC's 21.
    """

    evaluation: ClassVar = {"split": "val"}
    root_is: ClassVar = "the VOCdevkit folder"
    own_classes: ClassVar = True

    kind: Literal["voc"] = "voc"
    split: str
    labels: FilePath | None = None

    def open(self, labels: LabelSet | None = None) -> VocSegmentation:
        """Open the data set."""
        if self.labels and not labels:
            labels = read_labels(self.labels)
        return VocSegmentation(self.root, self.split, labels=labels or VOC_LABELS)

    def listing(self, split: str) -> Listing:
        """List the pairs."""
        return list_voc(self.root, self.split, split, self.labels)

    @classmethod
    def found_in(cls, root: Path, splits: Sequence[str], labels: Path | None) -> Sequence[VocSource]:
        """Return a source for each list of a folder in VOC's layout."""
        try:
            lists = find_folder(root) / LISTS
        except DatasetError:
            return ()
        names = check_lists(lists, splits)
        if not names:
            others = ", ".join(sorted(file.stem for file in lists.glob("*.txt"))) or "none"
            raise DatasetError(
                f"{lists}: has no list train or val; name another list with --split; there are: {others}"
            )
        return [cls(root=root, split=name, labels=labels) for name in names]


class VocSegmentation(FileDataset):
    """Images and masks of a list of VOC.

    A mask is read from ``SegmentationClass`` or, if it is not there, from ``SegmentationClassAug``. That folder has the
    Semantic Boundaries Dataset's masks, which extend ``train`` (1464 images) to ``train_aug`` (10582).

    Args:
        root: folder ``VOCdevkit``, or ``VOC2012`` in it.
        split: a list in ``ImageSets/Segmentation``: ``train``, ``train_aug``, ``trainval``, ``val``.
        year: the year in ``VOC<year>``, the folder in the devkit.
        labels: classes of the masks; give your own for your own data in this layout.

    Raises:
        DatasetError: the folder or the list is missing, the list is empty or holds paths, or files that it names are
            missing.
    """

    def __init__(
        self, root: str | Path, split: str = "train", *, year: int = 2012, labels: LabelSet = VOC_LABELS
    ) -> None:
        super().__init__(list_voc(Path(root), split, split, labels=labels, year=year))


def list_voc(
    root: Path,
    list_name: str,
    split: str,
    label_file: Path | None = None,
    labels: LabelSet | None = None,
    year: int = 2012,
) -> Listing:
    """List a split of VOC, or of your own data in its layout.

    ``list_name`` is a list in ``ImageSets/Segmentation``, and ``split`` its name in findings. The classes are VOC's
    unless ``label_file`` or ``labels`` gives others.

    Raises:
        DatasetError: there are no lists, or the classes cannot be read.
    """
    folder = find_folder(root, year)
    labels = labels or (read_labels(label_file) if label_file else VOC_LABELS)
    labels = VOC_LABELS if labels == VOC_LABELS else labels  # a constant that states its palette and ignore index
    path = folder / LISTS / f"{list_name}.txt"
    names, findings = read_names(path, split, "train_aug comes with the Semantic Boundaries Dataset")
    odd = [name for name in names if not is_image_id(name)]
    findings += unknown_names(path, odd, IMAGES, split)
    images, own, sbd = (file_names(folder / part) for part in (IMAGES, MASKS, SBD_MASKS))
    pairs = []
    for name in [name for name in names if name not in odd]:
        mask_folder = MASKS if f"{name}.png" in own else SBD_MASKS
        image, mask = folder / IMAGES / f"{name}.jpg", folder / mask_folder / f"{name}.png"
        has_image, has_mask = image.name in images, mask_folder is MASKS or mask.name in sbd
        if has_image and has_mask:
            pairs.append(Pair(name, image, mask))
        else:
            findings += _missing(path, name, has_image, has_mask, split)
    return Listing(split, folder, labels, tuple(pairs), tuple(findings), LISTS / f"{list_name}.txt", label_file)


def _missing(path: Path, name: str, has_image: bool, has_mask: bool, split: str) -> list[Finding]:
    if not (has_image or has_mask):
        return unknown_names(path, [name], IMAGES, split)
    kind, file, where = ("missing-image", f"{IMAGES}/{name}.jpg", "not there")
    if has_image:
        kind, file, where = ("missing-mask", f"{MASKS}/{name}.png", f"neither there nor in {SBD_MASKS}/")
    reason, remedy = f"{path.name} names it, and it is {where}", f"unpack it there, or remove '{name}' from {path}"
    return [Finding(kind, str(path.parents[2] / file), reason, remedy, split)]


def find_folder(root: Path, year: int = 2012) -> Path:
    """Return the folder ``VOC<year>``, which is ``root`` or in ``root``.

    Raises:
        DatasetError: neither holds lists of splits.
    """
    remedy = f"give the VOCdevkit folder that holds VOC{year}, as unpacked from the PASCAL VOC archive"
    return folder_with(LISTS, root, f"VOC{year}", remedy)


def folder_with(part: str | Path, root: Path, inner: str, remedy: str) -> Path:
    """Return ``root / inner`` or ``root``, the first one that holds the folder ``part``.

    Raises:
        DatasetError: neither does.
    """
    for folder in (root / inner, root):
        if (folder / part).is_dir():
            return folder
    phrase = "has" if root.exists() else "does not exist, so there is"
    raise DatasetError(f"{root}: {phrase} no folder '{part}' in it or in '{inner}'; {remedy}")
