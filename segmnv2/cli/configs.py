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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of the same name.")] = False,
) -> None:
    """List the experiments that come with the package, or copy some of them to edit.

    `segmnv2 train NAME` trains one unchanged; `-o key=value` replaces a value.
    """
    from segmnv2.atomic import atomic_path
    from segmnv2.config.shipped import find_config, list_configs, summary_of
    from segmnv2.errors import ConfigError

    if not names:
        for name, path in list_configs().items():
            typer.echo(f"{name}: {summary_of(path)}")
        return
    copies = {find_config(name): out / find_config(name).name for name in names}
    existing = [str(copy) for copy in copies.values() if copy.exists()]
    if existing and not overwrite:
        raise ConfigError(f"{', '.join(existing)}: exists already; give another --out, or --overwrite")
    for source, copy in copies.items():
        with atomic_path(copy) as partial:
            partial.write_bytes(source.read_bytes())
        typer.echo(f"{copy} written; next: segmnv2 train {copy}")
