"""``segmnv2 demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the results.")] = Path("runs/demo"),
    config: Annotated[
        Path, typer.Option(metavar="FILE", help="Experiment on shapes: a YAML file, or a name of `segmnv2 configs`.")
    ] = Path("shapes"),
    override: Annotated[
        list[str] | None, typer.Option("-o", "--override", metavar="KEY=VALUE", help="Replace a value; repeatable.")
    ] = None,
) -> None:
    """Train on generated shapes, evaluate, infer, draw an image and print the paper's table: about three minutes."""
    from rich.console import Console

    from segmnv2.config import load_experiment
    from segmnv2.demonstration import run_demo

    experiment = load_experiment(config, override or ())
    run_demo(experiment, out, console=Console(stderr=True))
