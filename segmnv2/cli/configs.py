"""``segmnv2 configs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def configs(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Experiments to copy; without one, all are listed.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to copy to.")] = Path(),
) -> None:
    """List the experiments that come with the package, or copy some of them to edit.

    `segmnv2 train NAME` trains one unchanged; `-o key=value` replaces a value.
    """
    from segmnv2.atomic import atomic_path
    from segmnv2.config.shipped import find_config, list_configs, summary_of
    from segmnv2.ownership import check_replaceable

    if not names:
        for name, path in list_configs().items():
            typer.echo(f"{name}: {summary_of(path)}")
        return
    copies = {find_config(name): out / find_config(name).name for name in names}
    check_replaceable(copies.values())
    for source, copy in copies.items():
        with atomic_path(copy) as partial:
            partial.write_bytes(source.read_bytes())
        typer.echo(f"{copy} written; next: segmnv2 train {copy}")
