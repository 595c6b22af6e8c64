"""A repaired copy of a data set, in a new folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from segmnv2.checks.examination import Examination
from segmnv2.checks.mask_repairs import REPAIRS, repair_values
from segmnv2.data.mask_file import write_mask
from segmnv2.data.raw_mask import read_raw_mask
from segmnv2.datasets.listing import Finding, Listing, Pair
from segmnv2.errors import ConfigError, DatasetError
from segmnv2.files import atomic
from segmnv2.files.atomic import atomic_path
from segmnv2.files.ownership import claim

LEFT_OUT = ("missing-mask", "missing-image", "wrong-ending", "twin-name", "unknown-name", "repeated-name")
"""Kinds of findings whose files or list entries the copy does not contain."""

_NOT_ABOUT_IDS = ("size-mismatch", "exif-rotation")
"""Kinds of errors of a mask that do not prevent the repair of its ids."""


@dataclass
class RepairedCopy:
    """A copy with repaired masks.

    Attributes:
        folder: folder of the copy.
        copied: number of pairs in it.
        repaired: original of each repaired mask -> descriptions of the repairs.
        left_out: findings whose files or list entries the copy does not contain.
        unrepaired: errors that the copy still has.
    """

    folder: Path
    copied: int = 0
    repaired: dict[str, list[str]] = field(default_factory=dict)
    left_out: list[Finding] = field(default_factory=list)
    unrepaired: list[Finding] = field(default_factory=list)


def check_folder(folder: Path, listings: Sequence[Listing]) -> None:
    """Check that a repaired copy can be written.

    Raises:
        ConfigError: the folder is not new, is inside the originals or cannot be written, or the masks are not files.
    """
    atomic.check_folder(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"--fix {folder}: exists and is not empty; give a new folder")
    if folder.resolve() == Path.cwd():
        raise ConfigError(f"--fix {folder}: is the current folder, which cannot be replaced; give a new folder")
    pairs = [pair for listing in listings for pair in listing.pairs]
    sources = {file.parent.resolve() for pair in pairs for file in (pair.image, pair.mask) if file}
    if not sources.isdisjoint((folder.resolve(), *folder.resolve().parents)):
        raise ConfigError(f"--fix {folder}: is inside the data set's images or masks; give another folder")
    if any(listing.dataset is not None for listing in listings):
        raise ConfigError("--fix: COCO and shapes have no mask files to repair; leave it out")


def write_repaired_copy(examination: Examination, folder: Path) -> RepairedCopy:
    """Write a copy of all pairs, with repaired masks, lists and labels.

    The copy is written completely or not at all. Splits with different roots get subfolders named after the splits.

    Raises:
        ConfigError: as for :func:`check_folder`, or not all pairs were examined.
        OSError: a file cannot be written.
    """
    listings = [split.listing for split in examination.splits]
    check_folder(folder, listings)
    if examination.limited:
        raise ConfigError("--fix: needs all pairs; leave out --limit")
    result = RepairedCopy(folder, left_out=[finding for finding in examination.findings if _is_left_out(finding)])
    plans, blocked = _plans(examination.findings)
    one_root = len({listing.root for listing in listings}) == 1
    failed: set[str] = set(blocked)
    with _new_folder(folder) as work:
        done: set[Pair] = set()
        for listing in listings:
            target = work if one_root else work / listing.split
            for pair in listing.pairs:
                if pair not in done:
                    done.add(pair)
                    result.copied += 1
                    _copy_pair(listing, pair, target, plans, failed, result)
            _copy_lists(listing, target)
    errors = [finding for finding in examination.findings if finding.severity == "error" and not _is_left_out(finding)]
    result.unrepaired = [finding for finding in errors if finding.repair is None or finding.file in failed]
    return result


def _is_left_out(finding: Finding) -> bool:
    return finding.kind in LEFT_OUT and finding.repair is None


def _plans(findings: Sequence[Finding]) -> tuple[dict[str, list[str]], set[str]]:
    """Return mask -> its repairs, in order, and the masks that cannot be repaired."""
    names_of: dict[str, set[str]] = {}
    blocked = set()
    for finding in findings:
        if finding.repair:
            names_of.setdefault(finding.file, set()).update(finding.repair.split("+"))
        elif finding.severity == "error" and finding.kind not in _NOT_ABOUT_IDS:
            blocked.add(finding.file)
    plans = {
        file: [name for name in REPAIRS if name in names] for file, names in names_of.items() if file not in blocked
    }
    return plans, blocked & names_of.keys()


def _copy_pair(
    listing: Listing, pair: Pair, folder: Path, plans: dict[str, list[str]], failed: set[str], result: RepairedCopy
) -> None:
    assert pair.mask is not None
    _copy(pair.image, folder / pair.image.relative_to(listing.root))
    target = folder / pair.mask.relative_to(listing.root)
    plan = plans.get(str(pair.mask))
    if plan:
        labels = listing.labels_of_files
        try:
            write_mask(target.with_suffix(".png"), repair_values(read_raw_mask(pair.mask), plan, labels), labels)
            result.repaired[str(pair.mask)] = [REPAIRS[name][1] for name in plan]
            return
        except DatasetError:  # the repaired mask has ids of no class
            failed.add(str(pair.mask))
    _copy(pair.mask, target)


def _copy_lists(listing: Listing, folder: Path) -> None:
    if listing.list_file is not None:
        with atomic_path(folder / listing.list_file) as temporary:
            temporary.write_text("".join(f"{pair.name}\n" for pair in listing.pairs), encoding="utf-8")
    if listing.label_file is not None:
        _copy(listing.label_file, folder / "labels.yaml")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder, which is renamed to ``folder`` if the block ends without an error."""
    folder = folder.resolve()  # a link is followed, not replaced
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = folder.with_name(f".{uuid4().hex}")
    try:
        work.mkdir()
        claim(work)  # later commands may not replace a data set as a result
        yield work
        if folder.exists():
            folder.rmdir()  # check_folder has checked that it is empty
        work.replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
