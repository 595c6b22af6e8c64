"""The result of a benchmark: rows, what they mean, and where they were measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segmnv2.benchmark.compare import Rate
from segmnv2.files.atomic import atomic_path
from segmnv2.files.documents import dump_json


@dataclass(frozen=True)
class Row:
    """One thing that was measured.

    Attributes:
        name: what.
        rate: how fast.
        note: what else is to be said, as its share of the whole.
    """

    name: str
    rate: Rate
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows with their meaning.

    Attributes:
        rows: in the order they are shown in.
        verdict: sentences on what limits and what to change.
        environment: machine, versions and what was measured, as JSON values.
    """

    rows: tuple[Row, ...]
    verdict: tuple[str, ...]
    environment: dict[str, Any]

    def __getitem__(self, name: str) -> Row:
        """Return the row of that name."""
        return next(row for row in self.rows if row.name == name)

    def to_markdown(self) -> str:
        """Return the table, then the verdict, then the environment in one line."""
        lines = ["| | images/s | middle half | ms an image | |", "|---|---:|---:|---:|---|"]
        for row in self.rows:
            low, high = row.rate.quartiles
            lines.append(
                f"| {row.name} | {row.rate.median:.4g} | {low:.4g} to {high:.4g} | {1000 / row.rate.median:.4g} "
                f"| {row.note} |"
            )
        machine = ", ".join(f"{key} {value}" for key, value in self.environment.items())
        return "\n".join([*lines, "", *self.verdict, "", f"Measured with: {machine}."])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, every single measurement included."""
        rows = [{"name": row.name, **row.rate.to_dict(), "note": row.note} for row in self.rows]
        return {"rows": rows, "verdict": list(self.verdict), "environment": self.environment}

    def write_json(self, path: str | Path) -> None:
        """Write :meth:`to_dict` to a file, whole or not at all."""
        with atomic_path(path) as partial:
            partial.write_text(dump_json(self.to_dict(), indent=1) + "\n", encoding="utf-8")
