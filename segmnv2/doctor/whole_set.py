"""What is wrong with masks all together, where each by itself may be meant so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from segmnv2.doctor.finding import Finding
from segmnv2.doctor.frequencies import Frequencies
from segmnv2.doctor.listing import Listing, Pair
from segmnv2.labels import LabelSet

_WHITE = 255
_EXPLAINED = ("ids-out-of-range", "all-ignored")
"""What is said of single masks, and is of no use once it is known what ails all of them."""


@dataclass(frozen=True)
class Kept:
    """What is kept of a pair that was read.

    Attributes:
        pair: its files.
        index: its place in the listing.
        image_digest: see :class:`segmnv2.doctor.inspection.Reading`, as for the next two.
        mask_digest: of the ids.
        thumbnail: of the image.
        ids: the ids that occur, one bit each; ``None`` where they are not known.
    """

    pair: Pair
    index: int
    image_digest: bytes | None
    mask_digest: bytes | None
    thumbnail: bytes | None
    ids: bytes | None

    def holds(self) -> set[int]:
        """Return the ids that occur."""
        return set() if self.ids is None else set(np.flatnonzero(np.unpackbits(np.frombuffer(self.ids, np.uint8))))


@dataclass
class ExaminedSplit:
    """A split and what was found in its pairs.

    Attributes:
        listing: the split.
        kept: of each pair that was looked at.
        frequencies: of its classes.
    """

    listing: Listing
    kept: list[Kept] = field(default_factory=list)
    frequencies: Frequencies = field(default_factory=Frequencies)


def judge_masks(splits: Sequence[ExaminedSplit], findings: Sequence[Finding]) -> list[Finding]:
    """Add what only all masks together tell, and drop what it explains.

    Args:
        splits: the splits, of the same classes.
        findings: those of single pairs.
    """
    labels = splits[0].listing.classes.labels
    thresholded = {finding.file for finding in findings if finding.repair and "threshold" in finding.repair}
    masks = {
        split.listing.split: [
            (str(kept.pair.mask), kept.holds())
            for kept in split.kept
            if kept.pair.mask and kept.ids is not None and str(kept.pair.mask) not in thresholded
        ]
        for split in splits
    }
    new = _shifted(masks, labels)
    if not new:
        new = [finding for name, files in masks.items() for finding in _binary(name, files, labels)]
    explained = {finding.file for finding in new}
    kept = [finding for finding in findings if not (finding.kind in _EXPLAINED and finding.file in explained)]
    return kept + new + _nothing(splits, labels, explained)


def _binary(split: str, files: list[tuple[str, set[int]]], labels: LabelSet) -> list[Finding]:
    if labels.num_classes < 2 or set().union(*(ids for _, ids in files)) != {0, _WHITE}:
        return []
    meaning = "255 is ignored" if labels.ignore_index == _WHITE else "255 is no class"
    reason = f"0 and 255 are all that the split's {len(files)} masks hold: {meaning}, so nothing but "
    reason += f"'{labels.names[0]}' would be learnt"
    if labels.num_classes == 2:
        remedy, repair = f"save 1 ('{labels.names[1]}') in place of 255; --fix does", "binary"
    else:
        remedy, repair = f"save the id of the class that white means, 1..{labels.num_classes - 1}", None
    return [Finding("binary-masks", file, reason, remedy, split, repair) for file, ids in files if _WHITE in ids]


def _shifted(masks: dict[str, list[tuple[str, set[int]]]], labels: LabelSet) -> list[Finding]:
    everything = set().union(*(ids for files in masks.values() for _, ids in files)) - {labels.ignore_index}
    if not everything or min(everything) < 1 or max(everything) != labels.num_classes:
        return []
    reason = (
        f"no mask of the data set holds 0, and the largest id is {labels.num_classes}, one more than the last class: "
        "ids are counted from 1"
    )
    return [
        Finding("shifted-ids", file, reason, "subtract 1 from every id; --fix does", split, "shift")
        for split, files in masks.items()
        for file, ids in files
        if ids != {labels.ignore_index}
    ]


def _nothing(splits: Sequence[ExaminedSplit], labels: LabelSet, explained: set[str]) -> list[Finding]:
    findings = []
    for split in splits:
        empty = split.frequencies.masks and not split.frequencies.pixels[: labels.num_classes].any()
        if empty and not any(str(kept.pair.mask) in explained for kept in split.kept):
            reason = f"none of its {split.frequencies.masks} masks holds a pixel of a class"
            remedy = "look whether the masks are those that were drawn"
            findings.append(Finding("nothing-to-learn", str(split.listing.root), reason, remedy, split.listing.split))
    return findings


def judge_classes(splits: Sequence[ExaminedSplit]) -> list[Finding]:
    """Return classes that the first split, which is trained on, lacks."""
    train, *others = splits
    labels = train.listing.classes.labels
    if not train.frequencies.masks:
        return []
    findings = []
    for index, name in enumerate(labels.names):
        if train.frequencies.images[index]:
            continue
        where = f"in none of the {train.frequencies.masks} masks of '{train.listing.split}'"
        tested = [split for split in others if split.frequencies.images[index]]
        for split in tested:
            reason = f"'{name}' (id {index}) is in {split.frequencies.images[index]} masks, and {where}"
            remedy = "move some of its images to the training split, or the network cannot know it"
            findings.append(Finding("untrained-class", str(split.listing.root), reason, remedy, split.listing.split))
        if not tested:
            reason, remedy = (
                f"'{name}' (id {index}) is {where}",
                "add images of it, or take it as it is",
            )
            findings.append(Finding("absent-class", str(train.listing.root), reason, remedy, train.listing.split))
    return findings
