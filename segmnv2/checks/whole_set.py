"""Faults that only show in all pairs together: unlikely masks, and images that occur more than once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from segmnv2.checks.examined_split import ExaminedSplit, Kept
from segmnv2.checks.inspection import LARGEST_DIFFERENCE, Colors, candidates, difference
from segmnv2.data.image_file import read_image
from segmnv2.data.sample import Image
from segmnv2.datasets.listing import Finding
from segmnv2.errors import SegmnError
from segmnv2.labels import Color, LabelSet

_WHITE = 255

_EXPLAINED = ("ids-out-of-range", "all-ignored")
"""Kinds of findings of single masks that are removed if a fault of all masks explains them."""


def judge_masks(splits: Sequence[ExaminedSplit], findings: Sequence[Finding]) -> list[Finding]:
    """Add findings of all masks together to those of single pairs, and remove those that they explain."""
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
    new = _shifted(masks, present, labels) or [
        finding for name, files in masks.items() for finding in _binary(name, files, labels)
    ]
    explained = {finding.file for finding in new}
    kept = [finding for finding in findings if not (finding.kind in _EXPLAINED and finding.file in explained)]
    if any(_WHITE in ids and ids & {*range(1, labels.num_classes)} for files in masks.values() for _, ids in files):
        # Then 255 may also mean ignored in black and white masks, so no repair is certain.
        doubt = "; other masks have 255 as well as classes"
        kept = [replace(f, repair=None, reason=f.reason + doubt) if f.kind == "binary-masks" else f for f in kept]
    return kept + new + _unlabeled(splits, labels, explained)


def _binary(split: str, files: list[tuple[str, set[int]]], labels: LabelSet) -> list[Finding]:
    """Return the masks of a split with 255 if all its masks have only 0 and 255, and the labels ignore 255."""
    if labels.ignore_index != _WHITE or "ignore_index" in labels.label_defaults:
        return []  # read_mask already refuses each mask
    if set().union(*(ids for _, ids in files)) != {0, _WHITE}:
        return []
    reason = f"all {len(files)} masks of the split have only 0 and 255: 255 is ignored, so training would only see "
    reason += f"'{labels.names[0]}'"
    remedy = f"replace 255 by the id of the class that white means, 1..{labels.num_classes - 1}"
    return [Finding("binary-masks", file, reason, remedy, split) for file, ids in files if _WHITE in ids]


def _shifted(masks: dict[str, list[tuple[str, set[int]]]], present: set[int], labels: LabelSet) -> list[Finding]:
    """Return masks whose ids count from 1.

    This is certain if ignored pixels occur too. Otherwise the largest id may mean ignored.
    """
    last, ignored = labels.num_classes, labels.ignore_index
    classes = present - {ignored}
    if not classes or min(classes) < 1 or max(classes) != last:
        return []
    reason = f"no mask of the data set has 0, and the largest id is {last}, one more than the last class: "
    remedy = "subtract 1 from every id"
    repair = "shift" if ignored in present else None
    if repair:
        reason, remedy = f"{reason}ids are counted from 1", f"{remedy}; --fix does this"
    else:
        reason += f"ids are counted from 1, or {last} means ignored"
        remedy += f", or write `ignore_index: {last}` to labels.yaml if {last} means ignored"
    return [
        Finding("shifted-ids", file, reason, remedy, split, repair)
        for split, files in masks.items()
        for file, ids in files
        if ids != {ignored}
    ]


def _unlabeled(splits: Sequence[ExaminedSplit], labels: LabelSet, explained: set[str]) -> list[Finding]:
    findings = []
    for split in splits:
        empty = split.frequencies.masks and not split.frequencies.pixels[: labels.num_classes].any()
        if empty and not any(str(kept.pair.mask) in explained for kept in split.kept):
            reason = f"none of its {split.frequencies.masks} masks has a pixel of a class"
            remedy = "check that these are the right masks"
            findings.append(Finding("nothing-to-learn", str(split.listing.root), reason, remedy, split.listing.split))
    return findings


def compare_palettes(splits: Sequence[ExaminedSplit]) -> list[Finding]:
    """Return palette files in which a value has another color than in other masks.

    Palettes of rising grays are compared only with color palettes. Many programs write them by default, and some
    stretch them over the values of a file.
    """
    files = [(split.listing.split, str(kept.pair.mask), kept.colors) for split in splits for kept in split.kept]
    colored = [pairs for *_, pairs in files if not _is_rising_gray(pairs)]
    if not colored:
        return []
    values: defaultdict[Color, Counter[int]] = defaultdict(Counter)
    colors: defaultdict[int, Counter[Color]] = defaultdict(Counter)
    for value, color in (pair for *_, pairs in files for pair in pairs):
        values[color][value] += 1
    for value, color in (pair for pairs in colored for pair in pairs):
        colors[value][color] += 1
    value_of = {color: counts.most_common(1)[0][0] for color, counts in values.items()}
    color_of = {value: counts.most_common(1)[0][0] for value, counts in colors.items()}
    remedy = "training reads the values: if they are right, save all masks with one palette; if the colors are right, "
    remedy += "save all masks as RGB and add their palette to labels.yaml"
    findings = []
    for split, file, pairs in files:
        moved = [(value, color) for value, color in pairs if value_of[color] != value]
        own = () if _is_rising_gray(pairs) else pairs
        recolored = [(value, color) for value, color in own if color_of[value] != color]
        if moved:
            value, color = moved[0]
            reason = f"value {value} has the color {list(color)}, which is value {value_of[color]} in other masks"
            findings.append(Finding("palette-order", file, reason, remedy, split))
        elif recolored:
            value, color = recolored[0]
            reason = f"value {value} has the color {list(color)}, but {list(color_of[value])} in other masks"
            findings.append(Finding("palette-differs", file, reason, remedy, split))
    return findings


def _is_rising_gray(pairs: Colors) -> bool:
    grays = [color[0] for _, color in pairs if len({*color}) == 1]
    return len(grays) == len(pairs) and grays == sorted({*grays})


def judge_classes(splits: Sequence[ExaminedSplit]) -> list[Finding]:
    """Return findings for the classes that do not occur in the first split, the training set."""
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
            reason = f"'{name}' (id {index}) is in {split.frequencies.images[index]} masks here, but {where}"
            remedy = "move some of its images to the training split, so that the model can learn it"
            findings.append(Finding("untrained-class", str(split.listing.root), reason, remedy, split.listing.split))
        if not tested:
            reason, remedy = f"'{name}' (id {index}) is {where}", "add images of it, or keep the labels unchanged"
            findings.append(Finding("absent-class", str(train.listing.root), reason, remedy, train.listing.split))
    return findings


_MOVE = "keep it in one split only: a model easily recognizes its training images"
_NAMED = 5


def find_repetitions(splits: Sequence[ExaminedSplit]) -> list[Finding]:
    """Return findings for images that occur twice in a split, or in two splits."""
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
            kind, remedy = "duplicate", "remove one of the two, because it counts twice"
        else:
            kind, remedy = "duplicate-masks", "keep the one with the right mask"
            reason += ", but another mask"
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
        form = "as the same file" if same else f"with the same pixels, as {other.pair.image}"
        reason = f"is also in '{first.listing.split}', {form}"
        findings.append(Finding("leak", str(kept.pair.image), reason, _MOVE, second.listing.split))
    return findings, leaked


def _copies(first: ExaminedSplit, second: ExaminedSplit, leaked: set[int]) -> tuple[list[Finding], set[int]]:
    """Return images of the second split that are similar to one of the first, and their indices."""
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
            f"{distance:.2f} of 255 levels (a compressed or scaled copy, or the same scene)"
        )
        findings.append(Finding("leak-copy", str(other.pair.image), reason, _MOVE, second.listing.split))
    return findings, copied


def _difference(first: ExaminedSplit, one: Kept, second: ExaminedSplit, other: Kept) -> float:
    try:
        return difference(_image(first, one), _image(second, other))
    except SegmnError:  # the file was removed in the meantime
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
    reason = f"{', '.join(shared[:_NAMED])}{more} are also names in '{first.listing.split}', of other images"
    remedy = "check whether they show the same scene; if not, keep them"
    return [Finding("shared-names", str(second.listing.root), reason, remedy, second.listing.split)]
