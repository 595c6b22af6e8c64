"""Faults that only all pairs together show: unlikely masks, and images that occur more than once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import TypeVar

from segmnv2.checks.examined_split import ExaminedSplit, Kept
from segmnv2.checks.inspection import LARGEST_DIFFERENCE, Colors, candidates, difference
from segmnv2.data.image_file import read_image
from segmnv2.data.sample import Image
from segmnv2.datasets.listing import Finding
from segmnv2.errors import SegmnError
from segmnv2.labels import Color, LabelSet

_WHITE = 255
T = TypeVar("T")

_EXPLAINED = ("ids-out-of-range", "all-ignored")
"""Kinds of findings of single masks that are dropped if a fault of all masks explains them."""


def judge_masks(splits: Sequence[ExaminedSplit], findings: Sequence[Finding]) -> list[Finding]:
    """Add findings of all masks together to those of single pairs, and drop those that they explain."""
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
        # Then 255 may mean ignored in black and white masks too, so no repair is certain.
        beside = "; other masks hold 255 beside classes"
        kept = [replace(f, repair=None, reason=f.reason + beside) if f.kind == "binary-masks" else f for f in kept]
    return kept + new + _nothing(splits, labels, explained)


def _binary(split: str, files: list[tuple[str, set[int]]], labels: LabelSet) -> list[Finding]:
    """Return masks of only 0 and 255 if the labels say that 255 is ignored and no mask of the split holds a class."""
    if labels.ignore_index != _WHITE or "ignore_index" in labels.label_defaults:
        return []  # each mask was already refused
    if set().union(*(ids for _, ids in files)) != {0, _WHITE}:
        return []
    reason = f"0 and 255 are all that the split's {len(files)} masks hold: 255 is ignored, so nothing but "
    reason += f"'{labels.names[0]}' would be learned"
    remedy = f"save the id of the class that white means, 1..{labels.num_classes - 1}"
    return [Finding("binary-masks", file, reason, remedy, split) for file, ids in files if _WHITE in ids]


def _shifted(masks: dict[str, list[tuple[str, set[int]]]], present: set[int], labels: LabelSet) -> list[Finding]:
    """Return masks whose ids count from 1.

    This is certain if ignored pixels occur too. Otherwise the largest id could be a value that does not count.
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
            remedy = "check that these are the masks that were drawn"
            findings.append(Finding("nothing-to-learn", str(split.listing.root), reason, remedy, split.listing.split))
    return findings


def compare_palettes(splits: Sequence[ExaminedSplit]) -> list[Finding]:
    """Return palette files in which a value has another color than in other masks.

    Palettes of rising grays are compared only with other palettes, because programs write them by default, and some
    stretch them over the values in a file.
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
    """Return classes that do not occur in the first split, the training set."""
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
            remedy = "move some of its images to the training split, or the network cannot learn it"
            findings.append(Finding("untrained-class", str(split.listing.root), reason, remedy, split.listing.split))
        if not tested:
            reason, remedy = f"'{name}' (id {index}) is {where}", "add images of it, or keep it unchanged"
            findings.append(Finding("absent-class", str(train.listing.root), reason, remedy, train.listing.split))
    return findings


_MOVE = "keep it in one split only: a network that has seen an image in training finds it easy"
_NAMED = 5


def find_repetitions(splits: Sequence[ExaminedSplit]) -> list[Finding]:
    """Return images that are in a split twice, and images that are in two splits."""
    findings = [finding for split in splits for finding in _duplicates(split)]
    for first, second in combinations(splits, 2):
        leaks, leaked = _leaks(first, second)
        findings += leaks
        copies, copied = _copies(first, second, leaked)
        findings += copies + _shared_names(first, second, leaked | copied)
    return findings


def _duplicates(split: ExaminedSplit) -> list[Finding]:
    seen: dict[bytes, Kept] = {}
    findings = []
    for kept in split.kept:
        if kept.image_digest is None:
            continue
        first = seen.setdefault(kept.image_digest, kept)
        if first is kept:
            continue
        reason = f"has the same pixels as {first.pair.image}"
        if kept.mask_digest == first.mask_digest:
            kind, remedy = "duplicate", "remove one of the two: it counts twice"
        else:
            kind, remedy = "duplicate-masks", "keep the one whose mask is right"
            reason += ", and another mask"
        findings.append(Finding(kind, str(kept.pair.image), reason, remedy, split.listing.split))
    return findings


def _leaks(first: ExaminedSplit, second: ExaminedSplit) -> tuple[list[Finding], set[int]]:
    """Return images with the same decoded pixels, and their indices in the second split."""
    known = {kept.image_digest: kept for kept in reversed(first.kept) if kept.image_digest is not None}
    findings, leaked = [], set()
    for kept in second.kept:
        other = known.get(kept.image_digest) if kept.image_digest is not None else None
        if other is None:
            continue
        leaked.add(kept.index)
        same = kept.pair.image == other.pair.image
        what = "the same file" if same else f"the same pixels, as {other.pair.image}"
        reason = f"is in '{first.listing.split}', too: {what}"
        findings.append(Finding("leak", str(kept.pair.image), reason, _MOVE, second.listing.split))
    return findings, leaked


def _copies(first: ExaminedSplit, second: ExaminedSplit, leaked: set[int]) -> tuple[list[Finding], set[int]]:
    """Return images similar to one of the other split; pairs with similar small thumbnails are opened again."""
    left = [kept for kept in first.kept if kept.thumbnail is not None]
    right = [kept for kept in second.kept if kept.thumbnail is not None and kept.index not in leaked]
    findings, copied = [], set()
    pairs = candidates([kept.thumbnail or b"" for kept in left], [kept.thumbnail or b"" for kept in right])
    for i, j in pairs:
        one, other = left[i], right[j]
        if other.index in copied:
            continue
        distance = _difference(first, one, second, other)
        if distance > LARGEST_DIFFERENCE:
            continue
        copied.add(other.index)
        reason = (
            f"looks like {one.pair.image} of '{first.listing.split}': the 32 x 32 gray thumbnails differ by "
            f"{distance:.2f} of 255 levels (compressed or scaled again, or one scene twice)"
        )
        findings.append(Finding("leak-copy", str(other.pair.image), reason, _MOVE, second.listing.split))
    return findings, copied


def _difference(first: ExaminedSplit, one: Kept, second: ExaminedSplit, other: Kept) -> float:
    try:
        return difference(_image(first, one), _image(second, other))
    except SegmnError:  # the file was removed since it was read
        return float("inf")


def _image(split: ExaminedSplit, kept: Kept) -> Image:
    if kept.pair.mask is None and split.listing.dataset is not None:
        return split.listing.dataset[kept.index].image
    return read_image(kept.pair.image)


def _shared_names(first: ExaminedSplit, second: ExaminedSplit, known: set[int]) -> list[Finding]:
    names = {kept.pair.name for kept in first.kept}
    shared = [kept.pair.name for kept in second.kept if kept.pair.name in names and kept.index not in known]
    if not shared:
        return []
    more = f" and {len(shared) - _NAMED} more" if len(shared) > _NAMED else ""
    reason = f"{', '.join(shared[:_NAMED])}{more} are names of images in '{first.listing.split}', too, of other content"
    remedy = "check whether they show the same scene; if not, nothing needs to be done"
    return [Finding("shared-names", str(second.listing.root), reason, remedy, second.listing.split)]
