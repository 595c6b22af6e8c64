"""Faults of all masks together, where each by itself may be intended."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from segmnv2.checks.frequencies import Frequencies
from segmnv2.checks.inspection import Colors
from segmnv2.datasets.listing import Finding, Listing, Pair
from segmnv2.labels import Color, LabelSet

_WHITE = 255
T = TypeVar("T")

_EXPLAINED = ("ids-out-of-range", "all-ignored")
"""Findings of single masks that a fault of all masks explains."""


@dataclass(frozen=True)
class Kept:
    """Summary of a pair that was read.

    Attributes:
        pair: its files.
        index: its place in the listing.
        image_digest: see :class:`segmnv2.checks.inspection.Reading`, as for the next two.
        mask_digest: of the ids.
        thumbnail: of the image.
        ids: the ids that occur, one bit each; ``None`` where they are not known.
        colors: see :class:`segmnv2.checks.inspection.Reading`.
    """

    pair: Pair
    index: int
    image_digest: bytes | None
    mask_digest: bytes | None
    thumbnail: bytes | None
    ids: bytes | None
    colors: Colors = ()

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
    """Add findings of all masks together, and drop those that they explain.

    Args:
        splits: the splits, of the same classes.
        findings: those of single pairs.
    """
    labels = splits[0].listing.labels
    thresholded = {finding.file for finding in findings if finding.repair and "threshold" in finding.repair}
    masks = {
        split.listing.split: [
            (str(kept.pair.mask), kept.holds())
            for kept in split.kept
            if kept.pair.mask and kept.ids is not None and str(kept.pair.mask) not in thresholded
        ]
        for split in splits
    }
    present = set().union(*(ids for files in masks.values() for _, ids in files))
    new = _shifted(masks, present, labels)
    if not new:
        new = [finding for name, files in masks.items() for finding in _binary(name, files, labels)]
    explained = {finding.file for finding in new}
    kept = [finding for finding in findings if not (finding.kind in _EXPLAINED and finding.file in explained)]
    if any(_WHITE in ids and ids & {*range(1, labels.num_classes)} for files in masks.values() for _, ids in files):
        kept = [_uncertain(finding) if finding.kind == "binary-masks" else finding for finding in kept]
    return kept + new + _nothing(splits, labels, explained)


def _uncertain(finding: Finding) -> Finding:
    """Take the repair from a black and white mask where other masks hold 255 beside classes, as ignored."""
    return replace(finding, repair=None, reason=f"{finding.reason}; other masks hold 255 beside classes")


def _binary(split: str, files: list[tuple[str, set[int]]], labels: LabelSet) -> list[Finding]:
    """Return masks of 0 and 255 where the labels say that 255 is ignored, and no mask of the split holds a class."""
    if labels.ignore_index != _WHITE or "ignore_index" in labels.label_defaults:
        return []  # each mask was refused by itself
    if set().union(*(ids for _, ids in files)) != {0, _WHITE}:
        return []
    reason = f"0 and 255 are all that the split's {len(files)} masks hold: 255 is ignored, so nothing but "
    reason += f"'{labels.names[0]}' would be learned"
    remedy = f"save the id of the class that white means, 1..{labels.num_classes - 1}"
    return [Finding("binary-masks", file, reason, remedy, split) for file, ids in files if _WHITE in ids]


def _shifted(masks: dict[str, list[tuple[str, set[int]]]], present: set[int], labels: LabelSet) -> list[Finding]:
    """Return masks whose ids count from 1.

    It is certain where ignored pixels occur, too. Otherwise the largest id could be one that does not count.
    """
    last, ignored = labels.num_classes, labels.ignore_index
    classes = present - {ignored}
    if not classes or min(classes) < 1 or max(classes) != last:
        return []
    reason = f"no mask of the data set holds 0, and the largest id is {last}, one more than the last class: "
    remedy = "subtract 1 from every id"
    repair = "shift" if ignored in present else None
    if repair:
        reason, remedy = f"{reason}ids are counted from 1", f"{remedy}; --fix does"
    else:
        reason += "ids are counted from 1, or it does not count"
        remedy += f", or write `ignore_index: {last}` into labels.yaml if {last} does not count"
    return [
        Finding("shifted-ids", file, reason, remedy, split, repair)
        for split, files in masks.items()
        for file, ids in files
        if ids != {ignored}
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


def compare_palettes(splits: Sequence[ExaminedSplit]) -> list[Finding]:
    """Return palette files whose values and colors are paired in another way than in other masks.

    Grays that rise with the ids are nobody's choice, and some programs stretch them over what a file holds: nothing is
    said of them alone.
    """
    files = [(split.listing.split, str(kept.pair.mask), kept.colors) for split in splits for kept in split.kept]
    colored = [pairs for *_, pairs in files if not _is_rising_gray(pairs)]
    values: defaultdict[Color, Counter[int]] = defaultdict(Counter)
    colors: defaultdict[int, Counter[Color]] = defaultdict(Counter)
    for value, color in (pair for *_, pairs in files if colored for pair in pairs):
        values[color][value] += 1
    for value, color in (pair for pairs in colored for pair in pairs):
        colors[value][color] += 1
    remedy = "training takes the values: if the colors are right instead, save all masks as RGB and give labels.yaml "
    remedy += "their palette; if the values are, save the masks with one palette"
    findings = []
    for split, file, pairs in files if colored else ():
        moved = [(value, color, _usual(values[color])) for value, color in pairs if _usual(values[color]) != value]
        own = () if _is_rising_gray(pairs) else pairs
        other = [(value, color, _usual(colors[value])) for value, color in own if _usual(colors[value]) != color]
        if moved:
            value, color, usual = moved[0]
            reason = f"value {value} has the color {list(color)}, which is value {usual} in other masks"
            findings.append(Finding("palette-order", file, reason, remedy, split))
        elif other:
            value, color, named = other[0]
            reason = f"value {value} has the color {list(color)}, and {list(named)} in other masks"
            findings.append(Finding("palette-differs", file, reason, remedy, split))
    return findings


def _usual(counts: Counter[T]) -> T:
    return counts.most_common(1)[0][0]


def _is_rising_gray(pairs: Colors) -> bool:
    grays = [color[0] for _, color in pairs if len({*color}) == 1]
    return len(grays) == len(pairs) and grays == sorted({*grays})


def judge_classes(splits: Sequence[ExaminedSplit]) -> list[Finding]:
    """Return classes that the first split, which is trained on, lacks."""
    train, *others = splits
    labels = train.listing.labels
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
                "add images of it, or keep it unchanged",
            )
            findings.append(Finding("absent-class", str(train.listing.root), reason, remedy, train.listing.split))
    return findings
