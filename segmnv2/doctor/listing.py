"""Pairs of a split, and the faults that show before any of them is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from segmnv2.data.sample import SegmentationDataset
from segmnv2.doctor.finding import Finding
from segmnv2.labels import LabelSet


@dataclass(frozen=True)
class Pair:
    """An image and its mask.

    Attributes:
        name: as lists have it.
        image: the image's file; of a data set without mask files, what stands for it in messages.
        mask: the mask's file; ``None`` where the data set makes masks itself.
    """

    name: str
    image: Path
    mask: Path | None


@dataclass(frozen=True)
class Listing:
    """A split to examine.

    Attributes:
        split: what it is called in findings; no two listings of an examination have one name.
        root: the data set's folder.
        labels: the classes that its masks may hold.
        pairs: all that can be opened.
        findings: faults of folders and lists.
        list_file: the list, relative to the root, that names the pairs; ``None`` where there is none.
        label_file: the file with the classes; ``None`` where there is none.
        dataset: what reads the pairs where masks are no files of their own.
    """

    split: str
    root: Path
    labels: LabelSet
    pairs: tuple[Pair, ...]
    findings: tuple[Finding, ...] = ()
    list_file: Path | None = None
    label_file: Path | None = None
    dataset: SegmentationDataset | None = field(default=None, repr=False)


def read_names(path: Path, split: str) -> tuple[list[str], list[Finding]]:
    """Read a list, one name a line.

    Returns:
        The names, each once, in the list's order; and what is wrong with the file.
    """
    if not path.is_file():
        others = ", ".join(sorted(file.stem for file in path.parent.glob("*.txt"))) or "none"
        reason = f"there is no such list; the splits present are: {others}"
        return [], [Finding("missing-list", str(path), reason, "write one file name without ending a line", split)]
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = f"is no text file that can be read ({error})"
        return [], [Finding("missing-list", str(path), reason, "give one file name without ending a line", split)]
    counts = Counter(line.strip() for line in lines if line.strip())
    if not counts:
        return [], [Finding("empty", str(path), "names no images", "give one file name without ending a line", split)]
    findings = [
        Finding("repeated-name", str(path), f"names '{name}' {count} times", "name each image once", split)
        for name, count in counts.items()
        if count > 1
    ]
    return list(counts), findings


def unknown_names(path: Path, names: Iterable[str], folder: str, split: str) -> list[Finding]:
    """Return findings about the names of a list that no file has."""
    remedy = "write names without folder and ending, and only of files that are there"
    return [Finding("unknown-name", str(path), f"'{name}' is not in {folder}/", remedy, split) for name in names]
