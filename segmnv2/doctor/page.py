"""The examination as one HTML page that needs no other file."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from segmnv2.datasets.finding import ERROR_KINDS, KINDS
from segmnv2.doctor.examination import RULES, Examination
from segmnv2.doctor.frequencies import weights_yaml
from segmnv2.doctor.pictures import worst_examples

EXAMPLES = 3
"""Findings of each kind with images."""


def html_page(examination: Examination) -> str:
    """Return the page: findings by kind with the first examples as images, every file, and the classes."""
    template = files("segmnv2.doctor").joinpath("page.html").read_text(encoding="utf-8")
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
