"""What all scripts here do with their result, and with an argument that is at fault."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segmnv2.benchmark.result_table import Table
from segmnv2.errors import SegmnError
from segmnv2.files.atomic import atomic_path


def show_table(make: Callable[[], Table], path: Path | None) -> int:
    """Print a table and write it with every measurement; 0, or 2 with one message when an argument is at fault."""
    tables: list[Table] = []

    def work() -> None:
        tables.append(make())
        if path is not None:
            tables[0].write_json(path)

    code = run(work)
    if not code:
        print(tables[0].to_markdown())
    return code


def write_values(make: Callable[[], Any], path: Path | None) -> int:
    """Write JSON values, whose table is printed while it grows; returns as :func:`show_table` does."""

    def work() -> None:
        values = make()
        if path is not None:
            with atomic_path(path) as partial:
                partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")

    return run(work)


def run(work: Callable[[], object]) -> int:
    """Do the work of a script; 0, or 2 with one message when an argument is at fault."""
    try:
        work()
    except SegmnError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
