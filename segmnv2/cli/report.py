"""``segmnv2 report``."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer


class Table(str, Enum):
    """Tables that can be reported."""

    TABLE4 = "table4"
    TABLE7 = "table7"


def report(
    table: Annotated[Table, typer.Argument(help="Which of the paper's tables.")] = Table.TABLE7,
    evaluation: Annotated[
        list[Path] | None, typer.Option(help="File of `segmnv2 evaluate --json` that fills a row's mIOU; repeatable.")
    ] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print a list of rows as JSON.")] = False,
) -> None:
    """Print one of the paper's tables beside what is computed here, the printed values in brackets.

    table7: segmentation on VOC; parameters and multiply-adds computed, mIOU with its source. table4: ImageNet
    classifiers; parameters and multiply-adds computed, accuracy the paper's.
    """
    from segmnv2.errors import ConfigError
    from segmnv2.report import table4, table7

    if table is not Table.TABLE7 and evaluation:
        raise ConfigError(f"--evaluation fills table7 only, not {table.value}; leave it out, or report table7")
    if table is Table.TABLE4:
        classifiers = table4.table4()
        _print([row.to_dict() for row in classifiers], table4.to_markdown(classifiers), json_out)
    else:
        rows = table7.table7(evaluation or ())
        _print([row.to_dict() for row in rows], table7.to_markdown(rows), json_out)


def _print(values: list[dict[str, Any]], text: str, json_out: bool) -> None:
    print(json.dumps(values, indent=1) if json_out else text)
