"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from segmnv2.inference.canvas import Size

Archives = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where the archives lie, or are downloaded to; ROOT/archives by default."),
]

Mirror = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Fetch from this folder, files of the same names, and not from the publisher."),
]


def parse_size(text: str) -> Size:
    """Read ``--size``.

    Raises:
        ConfigError: neither an integer of at least 17 nor ``native``.
    """
    from segmnv2.inference.canvas import check_size

    return check_size(int(text) if text.isdecimal() else text)
