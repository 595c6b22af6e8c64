"""Images that are in a data set more than once, whatever they are called."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from segmnv2.checks.inspection import LARGEST_DIFFERENCE, candidates, difference
from segmnv2.checks.whole_set import ExaminedSplit, Kept
from segmnv2.data.image_file import read_image
from segmnv2.data.sample import Image
from segmnv2.datasets.listing import Finding
from segmnv2.errors import SegmnError

_MOVE = "keep it in one split only: a network that has seen an image in training finds it easy"
_NAMED = 5


def find_repetitions(splits: Sequence[ExaminedSplit]) -> list[Finding]:
    """Return what is in a split twice, and what is in two splits."""
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
            kind, remedy = "duplicate", "take one of the two out: it counts twice"
        else:
            kind, remedy = "duplicate-masks", "keep the one whose mask is right"
            reason += ", and another mask"
        findings.append(Finding(kind, str(kept.pair.image), reason, remedy, split.listing.split))
    return findings


def _leaks(first: ExaminedSplit, second: ExaminedSplit) -> tuple[list[Finding], set[int]]:
    """Return images with the same decoded pixels, and their places in the second split."""
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
    """Return images that look like one of the other split; candidates of the kept thumbnails are opened again."""
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
    except SegmnError:  # gone since it was read
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
    remedy = "look whether they are other images of one scene; if not, nothing need be done"
    return [Finding("shared-names", str(second.listing.root), reason, remedy, second.listing.split)]
