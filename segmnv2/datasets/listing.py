"""Pairs of image and mask, lists of names, and findings: faults of files, each with reason and remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segmnv2.data.sample import Mask, SegmentationDataset
from segmnv2.errors import ConfigError, DatasetError
from segmnv2.labels import LabelSet


def is_image_id(name: str) -> bool:
    """Return whether an entry of a list is an image id: one word without slashes."""
    return name.split() == [name] and "/" not in name and "\\" not in name


def _count_names(path: Path) -> Counter[str]:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return Counter(line.strip() for line in lines if line.strip())


def read_ids(path: Path) -> list[str]:
    """Return the image ids in a list, in its order; blank lines are ignored.

    Raises:
        DatasetError: the list cannot be read as UTF-8, is empty, has an id twice, or an entry is not an id.
    """
    remedy = "give one image id per line"
    try:
        counts = _count_names(path)
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: is not a text file ({error}); {remedy}") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error}); {remedy}") from error
    if not counts:
        raise DatasetError(f"{path}: names no images; {remedy}")
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise DatasetError(
            f"{path}: {len(twice)} of its entries occur more than once, such as {twice[0]!r}; {remedy}, once"
        )
    for number, name in enumerate(counts, start=1):
        if not is_image_id(name):
            raise DatasetError(f"{path}: entry {number} is {name!r}; give one image id per line, such as 2007_000033")
    return list(counts)


Severity = Literal["error", "warning"]

ERROR_KINDS: dict[str, str] = {
    "empty": "nothing to train on",
    "missing-list": "the list of a split is missing or cannot be used",
    "unknown-name": "a list names a file that does not exist",
    "repeated-name": "a list names an image twice",
    "missing-mask": "an image without a mask",
    "missing-image": "a mask without an image",
    "wrong-ending": "a file that does not belong in its folder",
    "twin-name": "two files with the same name",
    "unreadable-image": "an image that cannot be read",
    "unreadable-mask": "a mask that cannot be read",
    "size-mismatch": "image and mask differ in size",
    "exif-rotation": "the image or the mask is turned by its EXIF entry, the other is not",
    "exif-ambiguous": "EXIF turns the image, and sizes do not show whether the mask is turned too",
    "jpeg-mask": "a mask with lossy compression",
    "mask-format": "a mask in a file format that is not read",
    "deep-mask": "a mask of more or fewer than 8 bits",
    "transparent-mask": "a mask with transparent pixels",
    "rgb-mask": "colors where ids are needed",
    "unknown-colors": "colors of no class",
    "interpolated-mask": "a mask smoothed along its borders",
    "palette-order": "values and colors of different classes",
    "ids-out-of-range": "ids of no class",
    "binary-masks": "black and white masks, whose white is ignored",
    "shifted-ids": "ids that start at 1",
    "nothing-to-learn": "every pixel of every mask is ignored",
    "leak": "an image in two splits",
    "leak-copy": "a changed copy of an image in another split",
}
"""Kinds of faults that stop training or make its result wrong -> description."""

WARNING_KINDS: dict[str, str] = {
    "smoothed-ids": "ids between those of their neighbors along borders",
    "palette-differs": "a palette in other colors than the classes'",
    "low-values": "a 16-bit image whose values use fewer bits",
    "animated": "several frames or pages, of which only the first is used",
    "all-ignored": "a mask of ignored pixels only",
    "absent-class": "a class that never occurs in a split",
    "untrained-class": "a class to validate on that is never trained",
    "duplicate": "the same image twice in a split",
    "duplicate-masks": "the same image twice in a split, with different masks",
    "shared-names": "the same name in two splits, for different images",
}
"""Kinds of faults that may be intended -> description."""

KINDS = ERROR_KINDS | WARNING_KINDS


@dataclass(frozen=True)
class Finding:
    """A fault in a data set.

    Attributes:
        kind: one of :data:`KINDS`; it decides the severity.
        file: the faulty file, or the folder, list or class if it is not a single file.
        reason: the fault.
        remedy: advice to correct it.
        split: the split of the file; ``None`` for the whole folder.
        repair: names of the repairs of ``--fix``, joined by ``+``; ``None`` if it cannot be repaired.
    """

    kind: str
    file: str
    reason: str
    remedy: str
    split: str | None = None
    repair: str | None = None

    @property
    def severity(self) -> Severity:
        """``error`` if it stops training or makes its result wrong; ``warning`` if it may be intended."""
        return "error" if self.kind in ERROR_KINDS else "warning"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"severity": self.severity, **asdict(self)}


SPLITS = ("train", "val")
"""Lists that `check-data` reads by default, training set first."""


@dataclass(frozen=True)
class Pair:
    """An image and its mask.

    Attributes:
        name: the name in lists.
        image: the image's file; for a data set without mask files, the path that messages show.
        mask: the mask's file; ``None`` if the data set computes its masks.
    """

    name: str
    image: Path
    mask: Path | None


@dataclass(frozen=True)
class Listing:
    """A split to examine.

    Attributes:
        split: its name in findings, unique in one examination.
        root: the data set's folder.
        labels: the classes that its masks may hold.
        pairs: all pairs that can be opened.
        findings: faults of folders and lists.
        list_file: the list of the pairs, relative to the root; ``None`` if there is none.
        label_file: the file with the classes; ``None`` if there is none.
        file_labels: the classes whose ids the mask files hold, if they differ from ``labels``.
        table: uint8 (256,), maps ids of ``file_labels`` to ids of ``labels``; ``None`` if they are the same.
        dataset: reader of the pairs, if the data set has no mask files.
    """

    split: str
    root: Path
    labels: LabelSet
    pairs: tuple[Pair, ...]
    findings: tuple[Finding, ...] = ()
    list_file: Path | None = None
    label_file: Path | None = None
    file_labels: LabelSet | None = None
    table: np.ndarray | None = field(default=None, repr=False, compare=False)
    dataset: SegmentationDataset | None = field(default=None, repr=False)

    @property
    def labels_of_files(self) -> LabelSet:
        """The classes whose ids the mask files hold."""
        return self.file_labels or self.labels

    def class_ids(self, mask: Mask) -> Mask:
        """Convert a mask with ids of ``labels_of_files`` to ids of ``labels``."""
        return mask if self.table is None else np.asarray(self.table[mask])

    def check(self) -> Listing:
        """Return the listing if it has no faults.

        Raises:
            DatasetError: it has faults; the message describes the first.
        """
        if not self.findings:
            return self
        first, count = self.findings[0], len(self.findings)
        more = f" (the first of {count} faults; `segmnv2 check-data` lists all)" if count > 1 else ""
        raise DatasetError(f"{first.file}: {first.reason}; {first.remedy}{more}")


def read_names(path: Path, split: str, hint: str) -> tuple[list[str], list[Finding]]:
    """Return the unique names in a list with one name per line, and the faults of the list.

    ``hint`` is a remedy for a missing list, besides writing one.
    """

    def fault(kind: str, reason: str, remedy: str) -> Finding:
        return Finding(kind, str(path), reason, remedy, split)

    if not path.is_file():
        others = ", ".join(sorted(file.stem for file in path.parent.glob("*.txt"))) or "none"
        reason = f"there is no such list; the splits present are: {others}"
        return [], [fault("missing-list", reason, f"write one file name per line, without ending; {hint}")]
    remedy = "give one file name per line, without ending"
    try:
        counts = _count_names(path)
    except (OSError, UnicodeDecodeError) as error:
        return [], [fault("missing-list", f"is not a readable text file ({error})", remedy)]
    if not counts:
        return [], [fault("empty", "names no images", remedy)]
    twice = [(name, count) for name, count in counts.items() if count > 1]
    return list(counts), [fault("repeated-name", f"names '{n}' {c} times", "name each image once") for n, c in twice]


def unknown_names(path: Path, names: Iterable[str], folder: str, split: str) -> list[Finding]:
    """Return a finding for each name in a list that has no file."""
    remedy = "write names of existing files, without folder and ending"
    return [Finding("unknown-name", str(path), f"'{name}' is not in {folder}/", remedy, split) for name in names]


def check_lists(folder: Path, splits: Sequence[str]) -> list[str]:
    """Return the names of the lists to examine: those given, else ``train`` and ``val`` if the folder has them.

    Raises:
        ConfigError: a name is given twice.
    """
    twice = sorted({split for split in splits if list(splits).count(split) > 1})
    if twice:
        raise ConfigError(f"--split {twice[0]} is given twice; name each list once")
    return [*splits] or [split for split in SPLITS if (folder / f"{split}.txt").is_file()]
