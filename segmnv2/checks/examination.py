"""Examination of a data set: the splits of an experiment or folder, their findings, and a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segmnv2.checks.examined_split import ExaminedSplit, Kept
from segmnv2.checks.inspection import LARGEST_DIFFERENCE, LEAST_CONTRAST, read_pairs
from segmnv2.checks.mask_diagnosis import BETWEEN_SHARE, NEAR_SHARE, STRAY_COLORS, STRAY_GRAYS
from segmnv2.checks.mask_repairs import COLOR_TOLERANCE
from segmnv2.checks.whole_set import compare_palettes, find_repetitions, judge_classes, judge_masks
from segmnv2.config.reading import find_config, load_experiment
from segmnv2.datasets.dataset_kinds import DATASETS, FileSource
from segmnv2.datasets.listing import KINDS, Finding, Listing
from segmnv2.errors import ConfigError, DatasetError, counted
from segmnv2.labels import LabelSet


def listings_of(
    target: Path,
    *,
    splits: Sequence[str] = (),
    labels: Path | None = None,
    overrides: Sequence[str] = (),
) -> list[Listing]:
    """Return the training and validation data of an experiment, or the splits of a folder.

    Args:
        target: YAML file or name of an experiment, or folder of a data set.
        splits: for a folder, the split lists to examine, the training set first; see ``DataSource.found_in``.
        labels: for a folder, the YAML file of its classes.
        overrides: for an experiment, texts ``key=value``.

    Raises:
        ConfigError: the experiment is wrong, or an option does not fit the target.
        DatasetError: the target is not a data set, or its classes cannot be read.
    """
    if target.is_dir():
        if overrides:
            raise ConfigError(f"-o {overrides[0]}: {target} is a folder; leave -o out, or give an experiment")
        return _folder_listings(target, splits, labels)
    try:
        target = find_config(target)
    except ConfigError as error:
        raise DatasetError(
            f"{target}: there is no such file or folder; give the folder of a data set, the YAML file of an "
            "experiment, or a name of `segmnv2 configs`"
        ) from error
    if splits or labels:
        raise ConfigError(f"{target}: the experiment already sets splits and labels; leave out --split and --labels")
    data = load_experiment(target, overrides).data
    listings = [data.train.listing("train"), data.val.listing("val")]
    train, val = (listing.labels for listing in listings)
    if train != val:
        differing = train.differences(val, "data.val", "data.train")
        raise ConfigError(f"the labels of data.train and data.val differ: {differing}; give both the same labels")
    return listings


def _folder_listings(root: Path, splits: Sequence[str], labels: Path | None) -> list[Listing]:
    for kind in DATASETS.values():
        if sources := kind.found_in(root, splits, labels):
            return [source.listing(getattr(source, "split", None) or "all") for source in sources]
    layouts = ", ".join(f"{name}: {kind.root_is}" for name, kind in DATASETS.items() if issubclass(kind, FileSource))
    raise DatasetError(
        f"{root}: does not have the layout of a data set ({layouts}); give the folder of a data set, or the YAML file "
        "of an experiment"
    )


RULES = {
    "leak-copy: largest RMS difference of 32 x 32 gray thumbnails": LARGEST_DIFFERENCE,
    "leak-copy: least standard deviation of a thumbnail": LEAST_CONTRAST,
    "interpolated-mask: more colors of no class than": STRAY_COLORS,
    "interpolated-mask: least share of pixels near a class's color": NEAR_SHARE,
    "interpolated-mask: largest RGB distance that is near": COLOR_TOLERANCE,
    "interpolated-mask, smoothed-ids: least share of border pixels between": BETWEEN_SHARE,
    "interpolated-mask, smoothed-ids: least number of values between": STRAY_GRAYS,
}
"""Description -> threshold, for the page and the JSON file."""


@dataclass(frozen=True)
class Examination:
    """Result of an examination.

    Attributes:
        splits: the splits, the training set first.
        findings: findings, errors first, sorted by kind and file.
        limited: whether only the first pairs of each split were read.
    """

    splits: tuple[ExaminedSplit, ...]
    findings: tuple[Finding, ...]
    limited: bool = False

    @property
    def labels(self) -> LabelSet:
        """The classes."""
        return self.splits[0].listing.labels

    @property
    def errors(self) -> int:
        """Number of errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """Number of warnings: findings that may be intended."""
        return len(self.findings) - self.errors

    @property
    def weights(self) -> dict[str, float]:
        """Suggested weights of the classes that occur in the first split, by name."""
        return self.splits[0].frequencies.weights(self.labels)

    @property
    def verdict(self) -> str:
        """Summary in one line."""
        read = f"{counted(sum(len(split.kept) for split in self.splits), 'pair')} read"
        read += ", not all of them (--limit)" if self.limited else ""
        if not self.findings:
            return f"{read}: no faults found"
        found = f"{counted(self.errors, 'error')}, {counted(self.warnings, 'warning')}"
        return f"{read}: {found}" + ("; fix the errors before training" if self.errors else "")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "verdict": self.verdict,
            "errors": self.errors,
            "warnings": self.warnings,
            "limited": self.limited,
            "kinds": dict(Counter(finding.kind for finding in self.findings)),
            "findings": [finding.to_dict() for finding in self.findings],
            "splits": [
                {
                    "split": split.listing.split,
                    "root": str(split.listing.root),
                    "pairs": len(split.listing.pairs),
                    "read": len(split.kept),
                    "masks_counted": split.frequencies.masks,
                    "ignored_share": split.frequencies.ignored_share(self.labels),
                    "classes": split.frequencies.table(self.labels),
                }
                for split in self.splits
            ],
            "class_weights": self.weights,
            "rules": RULES,
        }


def tasks_of(listings: Sequence[Listing], limit: int | None) -> list[tuple[int, int]]:
    """Return the (listing index, pair index) of each pair to read: all pairs, or the first ``limit`` of each split.

    Raises:
        ConfigError: ``limit`` is below 1.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit: {limit} is too small; give 1 or more, or leave it out to read all pairs")
    return [(number, index) for number, listing in enumerate(listings) for index in range(len(listing.pairs))[:limit]]


def examine(
    listings: Sequence[Listing],
    *,
    workers: int | None = None,
    limit: int | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Examination:
    """Read every pair and return the findings.

    Args:
        listings: splits of the same classes, the training set first.
        workers: as for :func:`segmnv2.checks.inspection.read_pairs`.
        limit: number of pairs to read of each split, the first ones. With it, missing classes are not reported.
        progress: called after each pair.

    Raises:
        ConfigError: ``workers`` or ``limit`` is below 1.
        DatasetError: a worker process was killed.
    """
    splits = tuple(ExaminedSplit(listing) for listing in listings)
    findings = [finding for listing in listings for finding in listing.findings]
    tasks = tasks_of(listings, limit)
    for (number, index), reading in zip(tasks, read_pairs(listings, tasks, workers), strict=True):
        split, ids = splits[number], None
        if reading.counts is not None:
            split.frequencies.add(reading.counts, split.listing.labels)
            ids = np.packbits(reading.counts > 0).tobytes()
        digests = reading.image_digest, reading.mask_digest, reading.thumbnail
        split.kept.append(Kept(split.listing.pairs[index], index, *digests, ids, reading.colors))
        findings += reading.findings
        progress()
    for listing in listings:
        if not listing.pairs and not any(finding.kind == "empty" for finding in listing.findings):
            remedy = "fix the other faults first, or add images and masks"
            findings.append(Finding("empty", str(listing.root), "no pair can be read", remedy, listing.split))
    limited = len(tasks) < sum(len(listing.pairs) for listing in listings)
    findings = judge_masks(splits, findings) + compare_palettes(splits)
    wrong_ids = {"binary-masks", "shifted-ids", "nothing-to-learn"}
    if not limited and not any(finding.kind in wrong_ids for finding in findings):
        findings += judge_classes(splits)
    findings += find_repetitions(splits)
    order = list(KINDS)
    unique = sorted(dict.fromkeys(findings), key=lambda finding: (order.index(finding.kind), finding.file))
    return Examination(splits, tuple(unique), limited)
