"""The examination for a terminal."""

from __future__ import annotations

from collections import defaultdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segmnv2.checks.examination import Examination
from segmnv2.checks.frequencies import weights_yaml
from segmnv2.checks.repaired_copy import RepairedCopy
from segmnv2.datasets.listing import KINDS, Finding
from segmnv2.errors import counted

LEAST_WIDTH = 100
"""Width of output to anything but a terminal, in characters."""

_STYLES = {"error": "bold red", "warning": "yellow"}


def print_examination(examination: Examination, console: Console, examples: int) -> None:
    """Print the classes, the suggested weights and the findings by kind, with the first files of each."""
    _print_classes(examination, console)
    if examination.weights:
        split = escape(examination.splits[0].listing.split)
        console.print(f"\nweights of median frequency balancing on '{split}', to paste:")
        console.print(weights_yaml(examination.weights), markup=False, highlight=False)
    by_kind: dict[str, list[Finding]] = defaultdict(list)
    for finding in examination.findings:
        by_kind[finding.kind].append(finding)
    if not by_kind:
        return
    table = Table("finding", "count", "files, reason and remedy", expand=False, show_lines=True)
    table.columns[1].justify = "right"
    for kind, findings in by_kind.items():
        severity = findings[0].severity
        head = f"[{_STYLES[severity]}]{severity}[/]\n{kind}"
        table.add_row(head, str(len(findings)), escape(_text(kind, findings, examples)))
    console.print(table)


def print_repaired_copy(repaired_copy: RepairedCopy, console: Console, examples: int) -> None:
    """Print what was repaired, what was left out, and what was not repaired."""
    console.print(
        f"{repaired_copy.folder}: a copy of {counted(repaired_copy.copied, 'pair')}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    done: dict[str, list[str]] = defaultdict(list)
    for file, words in repaired_copy.repaired.items():
        done["; ".join(words)].append(file)
    lines = [f"  repaired {len(files)} ({_some(files, examples)}): {words}" for words, files in done.items()]
    for title, findings in (("left out", repaired_copy.left_out), ("not repaired", repaired_copy.unrepaired)):
        kinds: dict[str, list[str]] = defaultdict(list)
        for finding in findings:
            kinds[finding.kind].append(finding.file)
        lines += [f"  {title}: {kind}, {len(files)} ({_some(files, examples)})" for kind, files in kinds.items()]
    for line in lines or ["  nothing to repair"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


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
        lines.append(f"--fix repairs {sum(bool(finding.repair) for finding in findings)}")
    return "\n".join(lines)


def _some(files: list[str], examples: int) -> str:
    return ", ".join(files[:examples]) + (f" and {len(files) - examples} more" if len(files) > examples else "")
