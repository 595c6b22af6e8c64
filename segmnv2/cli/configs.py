"""``segmnv2 configs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def configs(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Experiments to copy; all by default.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to copy to; the current one by default.")
    ] = None,
) -> None:
    """List the experiments that come with the package, or copy them to edit: those named, or all with --out.

    `segmnv2 train NAME` trains one unchanged; `-o key=value` replaces a value.
    """
    from segmnv2.config.shipped import find_config, list_configs, summary_of
    from segmnv2.files.atomic import atomic_path
    from segmnv2.files.ownership import check_replaceable

    if not names and out is None:
        for name, path in list_configs().items():
            typer.echo(f"{name}: {summary_of(path)}")
        return
    sources = [find_config(name) for name in names or list_configs()]
    copies = {source: (out or Path()) / source.name for source in sources}
    check_replaceable(copies.values())
    for source, copy in copies.items():
        with atomic_path(copy) as partial:
            partial.write_bytes(source.read_bytes())
        typer.echo(f"{copy} written; next: segmnv2 train {copy}")
