"""The examination as one HTML page that needs no other file.

Small images of a pair that a finding is about: image, mask, and one over the other.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from io import BytesIO

import cv2
import numpy as np
import PIL.Image
from jinja2 import Environment, StrictUndefined

from segmnv2.checks.examination import RULES, Examination
from segmnv2.checks.frequencies import weights_yaml
from segmnv2.checks.mask_diagnosis import diagnose_mask
from segmnv2.data.image_file import read_image
from segmnv2.data.raw_mask import RawMask, read_raw_mask
from segmnv2.data.sample import Image
from segmnv2.datasets.listing import ERROR_KINDS, KINDS, Finding, Listing, Pair
from segmnv2.errors import SegmnError
from segmnv2.inference.overlay import blend, colorize

LONGEST_SIDE = 220
"""Side in pixels."""

_QUALITY = 80


@dataclass(frozen=True)
class Example:
    """A finding with its images, which are ``data:`` addresses by their names."""

    finding: Finding
    pictures: dict[str, str] = field(default_factory=dict)


def worst_examples(examination: Examination, each: int) -> dict[str, list[Example]]:
    """Return of each kind the first findings, with images where their files can be opened.

    Args:
        examination: what was found.
        each: how many of a kind.
    """
    splits = [split.listing for split in examination.splits]
    chosen: dict[str, list[Finding]] = defaultdict(list)
    for finding in examination.findings:
        if len(chosen[finding.kind]) < each:
            chosen[finding.kind].append(finding)
    wanted = {finding.file for findings in chosen.values() for finding in findings}
    places = _places(splits, wanted)
    return {
        kind: [Example(finding, _pictures(places.get(finding.file))) for finding in findings]
        for kind, findings in chosen.items()
    }


def _places(listings: Sequence[Listing], wanted: set[str]) -> dict[str, tuple[Listing, int, Pair]]:
    places = {}
    for listing in listings:
        for index, pair in enumerate(listing.pairs):
            for file in {str(pair.image), str(pair.mask)} & wanted:
                places[file] = listing, index, pair
    return places


def _pictures(place: tuple[Listing, int, Pair] | None) -> dict[str, str]:
    if place is None:
        return {}
    image, mask, ids = _read(*place)
    result = {}
    if image is not None:
        result["image"] = _address(_shrink(image, cv2.INTER_AREA))
    if mask is not None:
        result["mask"] = _address(_shrink(mask, cv2.INTER_NEAREST))
    if image is not None and ids is not None and image.shape[:2] == ids.shape:
        labels = place[0].labels
        small, small_ids = _shrink(image, cv2.INTER_AREA), _shrink(ids, cv2.INTER_NEAREST)
        result["overlay"] = _address(blend(small, small_ids, labels))
    return result


def _read(listing: Listing, index: int, pair: Pair) -> tuple[Image | None, Image | None, np.ndarray | None]:
    """Return the image, the mask as an image, and the mask's ids; each ``None`` where it cannot be had."""
    labels = listing.labels
    if pair.mask is None:
        try:
            assert listing.dataset is not None
            sample = listing.dataset[index]
        except SegmnError:
            return None, None, None
        return sample.image, colorize(sample.mask, labels), sample.mask
    image = mask = ids = None
    try:
        image = read_image(pair.image)
    except SegmnError:
        image = None
    try:
        raw = read_raw_mask(pair.mask)
        ids = diagnose_mask(raw, listing.labels).ids
        mask = _as_drawn(raw) if ids is None or raw.values.ndim == 3 else colorize(ids, labels)
    except SegmnError:
        mask = None
    return image, mask, ids


def _as_drawn(raw: RawMask) -> Image:
    values = raw.values
    if values.ndim == 3:
        return np.ascontiguousarray(values[..., :3])
    if values.dtype != np.uint8:
        values = cv2.normalize(values.astype(np.float32), np.empty(0), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return np.repeat(values[..., None], 3, axis=2)


def _shrink(values: np.ndarray, interpolation: int) -> np.ndarray:
    height, width = values.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(values, size, interpolation=interpolation))


def _address(picture: np.ndarray) -> str:
    buffer = BytesIO()
    PIL.Image.fromarray(picture).save(buffer, format="JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


EXAMPLES = 3
"""Findings of each kind with images."""


def html_page(examination: Examination) -> str:
    """Return the page: findings by kind with the first examples as images, every file, and the classes."""
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
                "findings": [finding for finding in examination.findings if finding.kind == kind],
                "examples": examples[kind],
            }
            for kind in examples
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
