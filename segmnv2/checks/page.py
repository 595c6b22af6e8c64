"""Output of an examination: text for a terminal, and a self-contained HTML page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files

import cv2
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segmnv2.checks.examination import RULES, Examination
from segmnv2.checks.examined_split import weights_yaml
from segmnv2.checks.mask_diagnosis import diagnose_mask
from segmnv2.checks.repaired_copy import RepairedCopy
from segmnv2.data.image_file import read_image
from segmnv2.data.raw_mask import RawMask, read_raw_mask
from segmnv2.data.sample import Image
from segmnv2.datasets.listing import ERROR_KINDS, KINDS, Finding, Listing, Pair
from segmnv2.errors import SegmnError, counted
from segmnv2.inference.overlay import blend, colorize
from segmnv2.media.thumbnails import data_address, shrink

LEAST_WIDTH = 100
"""Smallest width, in characters, of output that does not go to a terminal."""

_STYLES = {"error": "bold red", "warning": "yellow"}


def print_examination(examination: Examination, console: Console, examples: int) -> None:
    """Print the classes, the suggested weights, and the findings by kind with the first files of each kind."""
    _print_classes(examination, console)
    if examination.weights:
        split = escape(examination.splits[0].listing.split)
        console.print(f"\nclass weights by median frequency balancing of '{split}', to copy into an experiment:")
        console.print(weights_yaml(examination.weights), markup=False, highlight=False)
    if not examination.findings:
        return
    table = Table("finding", "count", "files, reason and remedy", expand=False, show_lines=True)
    table.columns[1].justify = "right"
    for kind, findings in _by_kind(examination.findings).items():
        severity = findings[0].severity
        head = f"[{_STYLES[severity]}]{severity}[/]\n{kind}"
        table.add_row(head, str(len(findings)), escape(_text(kind, findings, examples)))
    console.print(table)


def print_repaired_copy(repaired_copy: RepairedCopy, console: Console, examples: int) -> None:
    """Print the repaired, the excluded and the unrepaired files."""
    title = f"{repaired_copy.folder}: a copy of {counted(repaired_copy.copied, 'pair')}"
    done: dict[str, list[str]] = defaultdict(list)
    for file, words in repaired_copy.repaired.items():
        done["; ".join(words)].append(file)
    lines = [f"  repaired {len(files)} ({_some(files, examples)}): {words}" for words, files in done.items()]
    for state, findings in (("left out", repaired_copy.left_out), ("not repaired", repaired_copy.unrepaired)):
        for kind, same in _by_kind(findings).items():
            lines.append(f"  {state}: {kind}, {len(same)} ({_some([finding.file for finding in same], examples)})")
    for line in [title, *(lines or ["  nothing to repair"])]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    result: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        result[finding.kind].append(finding)
    return result


def _print_classes(examination: Examination, console: Console) -> None:
    splits = examination.splits
    table = Table("class", title="share of pixels (of images)", title_justify="left")
    for split in splits:
        table.add_column(f"{escape(split.listing.split)}, {counted(split.frequencies.masks, 'mask')}", justify="right")
    rows = [split.frequencies.table(examination.labels) for split in splits]
    for name in examination.labels.names:
        cells = [f"{row[name]['pixel_share']:.2%} ({row[name]['image_share']:.1%})" for row in rows]
        table.add_row(escape(name), *cells)
    table.add_row("ignored", *(f"{split.frequencies.ignored_share(examination.labels):.2%}" for split in splits))
    console.print(table)


def _text(kind: str, findings: list[Finding], examples: int) -> str:
    lines = [f"{KINDS[kind]}: {findings[0].remedy}"]
    lines += [f"- {finding.file}: {finding.reason}" for finding in findings[:examples]]
    if len(findings) > examples:
        lines.append(f"- and {len(findings) - examples} more")
    if any(finding.repair for finding in findings):
        lines.append(f"--fix repairs {sum(bool(finding.repair) for finding in findings)} of them")
    return "\n".join(lines)


def _some(files: list[str], examples: int) -> str:
    return ", ".join(files[:examples]) + (f" and {len(files) - examples} more" if len(files) > examples else "")


LONGEST_SIDE = 220
"""Longest side of an image on the page, in pixels."""


@dataclass(frozen=True)
class Example:
    """A finding and its images, name -> ``data:`` URL."""

    finding: Finding
    pictures: dict[str, str] = field(default_factory=dict)


def worst_examples(examination: Examination, most: int) -> dict[str, list[Example]]:
    """Return kind -> its first findings, at most ``most``, with images if their files can be read."""
    splits = [split.listing for split in examination.splits]
    chosen = {kind: findings[:most] for kind, findings in _by_kind(examination.findings).items()}
    pairs = _find_pairs(splits, {finding.file for findings in chosen.values() for finding in findings})
    return {
        kind: [Example(finding, _images(pairs.get(finding.file))) for finding in findings]
        for kind, findings in chosen.items()
    }


def _find_pairs(listings: Sequence[Listing], files: set[str]) -> dict[str, tuple[Listing, int, Pair]]:
    """Return file -> (listing, index and files of its pair)."""
    pairs = {}
    for listing in listings:
        for index, pair in enumerate(listing.pairs):
            for file in {str(pair.image), str(pair.mask)} & files:
                pairs[file] = listing, index, pair
    return pairs


def _images(pair: tuple[Listing, int, Pair] | None) -> dict[str, str]:
    if pair is None:
        return {}
    image, mask, ids = _read(*pair)
    result = {}
    if image is not None:
        result["image"] = data_address(shrink(image, LONGEST_SIDE))
    if mask is not None:
        result["mask"] = data_address(shrink(mask, LONGEST_SIDE, smooth=False))
    if image is not None and ids is not None and image.shape[:2] == ids.shape:
        small, small_ids = shrink(image, LONGEST_SIDE), shrink(ids, LONGEST_SIDE, smooth=False)
        result["overlay"] = data_address(blend(small, small_ids, pair[0].labels))
    return result


def _read(listing: Listing, index: int, pair: Pair) -> tuple[Image | None, Image | None, np.ndarray | None]:
    """Return the image, the mask as an image, and the ids of the mask, each ``None`` if it cannot be read."""
    labels = listing.labels
    if pair.mask is None:
        try:
            assert listing.dataset is not None
            sample = listing.dataset[index]
        except SegmnError:
            return None, None, None
        return sample.image, colorize(sample.mask, labels), sample.mask
    image = mask = ids = None
    with suppress(SegmnError):
        image = read_image(pair.image)
    with suppress(SegmnError):
        raw = read_raw_mask(pair.mask)
        file_ids = diagnose_mask(raw, listing.labels_of_files).ids
        ids = None if file_ids is None else listing.class_ids(file_ids)
        mask = _raw_image(raw) if ids is None or raw.values.ndim == 3 else colorize(ids, labels)
    return image, mask, ids


def _raw_image(raw: RawMask) -> Image:
    values = raw.values
    if values.ndim == 3:
        return np.ascontiguousarray(values[..., :3])
    if values.dtype != np.uint8:
        values = cv2.normalize(values.astype(np.float32), np.empty(0), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return np.repeat(values[..., None], 3, axis=2)


EXAMPLES = 3
"""Largest number of findings of each kind that the page shows with images."""


def html_page(examination: Examination) -> str:
    """Return the page: findings by kind, with images of the first ones and all files, and the classes."""
    from jinja2 import Environment, StrictUndefined

    template = files("segmnv2.checks").joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    examples = worst_examples(examination, EXAMPLES)
    return environment.from_string(template).render(
        verdict=examination.verdict,
        roots=list(dict.fromkeys(str(split.listing.root) for split in examination.splits)),
        kinds=[
            {
                "name": kind,
                "title": KINDS[kind],
                "severity": "error" if kind in ERROR_KINDS else "warning",
                "findings": findings,
                "examples": examples[kind],
            }
            for kind, findings in _by_kind(examination.findings).items()
        ],
        splits=[
            (split.listing.split, split.frequencies.masks, split.frequencies.table(examination.labels))
            for split in examination.splits
        ],
        colors=dict(zip(examination.labels.names, examination.labels.palette, strict=True)),
        weights=examination.weights,
        weights_yaml=weights_yaml(examination.weights),
        rules=RULES,
    )
