"""Output of results: as text, and as JSON with ``--json``, which means the same everywhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

if TYPE_CHECKING:
    from segmnv2.engine.result import Result

STANDARD_OUTPUT = Path("-")

JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write the figures as JSON too; - for standard output, the text then going to standard error.",
    ),
]


def check_json(json_out: Path | None) -> None:
    """Refuse a file for ``--json`` that cannot be written, before the work.

    Raises:
        ConfigError: it cannot.
    """
    from segmnv2.files.atomic import check_writable

    if json_out not in (None, STANDARD_OUTPUT):
        check_writable(json_out)


def text_stream(json_out: Path | None) -> TextIO:
    """Return where the text goes: standard output, unless JSON takes it."""
    return sys.stderr if json_out == STANDARD_OUTPUT else sys.stdout


def write_json(values: Any, json_out: Path | None) -> None:
    """Write figures to the file of ``--json``, if there is one.

    Args:
        values: what is written, as JSON values.
        json_out: the file, ``-`` for standard output, or ``None``.

    Raises:
        OSError: the file cannot be written.
    """
    from segmnv2.files.atomic import atomic_path
    from segmnv2.files.documents import dump_json

    if json_out is None:
        return
    text = dump_json(values, indent=1)
    if json_out == STANDARD_OUTPUT:
        print(text)
        return
    with atomic_path(json_out) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def show_result(result: Result, weights: Path, place: Mapping[str, Any], json_out: Path | None) -> None:
    """Print an evaluation as a table, and write its figures to a file if one is given.

    Args:
        result: the evaluation.
        weights: file of the network.
        place: where the images are, as JSON values.
        json_out: the file, ``-`` for standard output, or ``None``.
    """
    from rich.console import Console
    from rich.markdown import Markdown

    table, stream = result.to_markdown(), text_stream(json_out)
    console = Console(file=stream)
    console.print(Markdown(table)) if console.is_terminal else print(table, file=stream)
    write_json(result.of(weights, place).to_dict(), json_out)
