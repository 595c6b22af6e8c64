"""``segmnv2 report``."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Table(str, Enum):
    """Tables that can be reported."""

    TABLE7 = "table7"


def report(
    table: Annotated[Table, typer.Argument(help="Which of the paper's tables.")] = Table.TABLE7,
    evaluation: Annotated[
        list[Path] | None, typer.Option(help="File of `segmnv2 evaluate --json` that fills a row's mIOU; repeatable.")
    ] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print a list of rows as JSON.")] = False,
) -> None:
    """Print the paper's Table 7: parameters and multiply-adds computed, mIOU with its source."""
    from segmnv2.report import table7, to_markdown

    assert table is Table.TABLE7
    rows = table7(evaluation or ())
    print(json.dumps([row.to_dict() for row in rows], indent=1) if json_out else to_markdown(rows))
