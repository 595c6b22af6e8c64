"""``segmnv2 benchmark``: what is fast here, and what limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from segmnv2.benchmark.table import Table

benchmark = typer.Typer(
    no_args_is_help=True,
    help="Measure speeds on this machine, with an experiment's own data and network.",
)

Config = Annotated[Path, typer.Argument(help="YAML file of the experiment, as those in configs/.")]
Override = Annotated[
    list[str] | None,
    typer.Option("-o", "--override", metavar="KEY=VALUE", help="Replace a value, as data.crop_size=257; repeatable."),
]
JsonOut = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="File for the table with every single measurement.")
]


@benchmark.command("data")
def data(
    config: Config,
    override: Override = None,
    batches: Annotated[int, typer.Option(metavar="N", help="Batches measured each time.")] = 20,
    workers: Annotated[str, typer.Option(metavar="N,N", help="Numbers of reading processes to try.")] = "0,1,2",
    json_out: JsonOut = None,
) -> None:
    """Measure the training loader alone, and its stages on one core: decoding, augmentation, collation."""
    from segmnv2.atomic import check_writable
    from segmnv2.config import load_experiment

    experiment = load_experiment(config, override or ())
    counts = _parse_workers(workers)
    if json_out is not None:
        check_writable(json_out)

    from segmnv2.benchmark.data import benchmark_data

    _show(benchmark_data(experiment, batches=batches, workers=counts), json_out)


@benchmark.command("train")
def train(
    config: Config,
    override: Override = None,
    steps: Annotated[int, typer.Option(metavar="N", help="Steps measured each time, after a warm-up.")] = 20,
    json_out: JsonOut = None,
) -> None:
    """Measure the training step alone, the loader alone and both together, and say which limits.

    Nothing is saved or validated, and files of initial weights are not needed.
    """
    from segmnv2.atomic import check_writable
    from segmnv2.config import load_experiment

    experiment = load_experiment(config, override or ())
    if json_out is not None:
        check_writable(json_out)

    from segmnv2.benchmark.training import benchmark_training

    _show(benchmark_training(experiment, steps=steps), json_out)


def _parse_workers(text: str) -> list[int]:
    from segmnv2.errors import ConfigError

    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise ConfigError(f"--workers {text!r}: give numbers of at least 0 with commas between them, as 0,1,2")
    return [int(word) for word in words]


def _show(table: Table, json_out: Path | None) -> None:
    if json_out is not None:
        table.write_json(json_out)
    print(table.to_markdown())
