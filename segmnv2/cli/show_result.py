"""What all evaluations end with on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segmnv2.engine.result import Result


def show_result(result: Result, weights: Path, place: Mapping[str, Any], json_out: Path | None) -> None:
    """Print an evaluation as a table, and write its figures to a file if one is wanted.

    Args:
        result: the evaluation.
        weights: file of the network.
        place: where the images are, as JSON values.
        json_out: the file, or ``None``.
    """
    from rich.console import Console
    from rich.markdown import Markdown

    if json_out is not None:
        result.of(weights, place).write_json(json_out)
    table = result.to_markdown()
    console = Console()
    console.print(Markdown(table)) if console.is_terminal else print(table)
