"""``segmnv2 benchmark``: speeds on this machine, and what limits them."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segmnv2.cli.inference_options import DeviceOption, refuse_options
from segmnv2.cli.output import JsonOption, check_json, text_stream, write_json
from segmnv2.errors import ConfigError

if TYPE_CHECKING:
    from segmnv2.benchmark.result_table import Table

benchmark = typer.Typer(
    no_args_is_help=True,
    help="Measure speeds on this machine, with an experiment's own data and network.",
)

Config = Annotated[Path, typer.Argument(help="YAML file of the experiment, or a name of `segmnv2 configs`.")]
Override = Annotated[
    list[str] | None,
    typer.Option("-o", "--override", metavar="KEY=VALUE", help="Replace a value, as data.crop_size=257; repeatable."),
]


@benchmark.command("data")
def data(
    config: Config,
    override: Override = None,
    batches: Annotated[int, typer.Option(metavar="N", help="Batches measured each time.")] = 20,
    workers: Annotated[str, typer.Option(metavar="N,N", help="Numbers of reading processes to try.")] = "0,1,2",
    json_out: JsonOption = None,
) -> None:
    """Measure the training loader alone, and its stages on one core: decoding, augmentation, collation."""
    from segmnv2.config import load_experiment

    experiment = load_experiment(config, override or ())
    counts = _parse_workers(workers)
    check_json(json_out)

    from segmnv2.benchmark.data import benchmark_data

    _show(benchmark_data(experiment, batches=batches, workers=counts), json_out)


@benchmark.command("train")
def train(
    config: Config,
    override: Override = None,
    steps: Annotated[int, typer.Option(metavar="N", help="Steps measured each time, after a warm-up.")] = 20,
    json_out: JsonOption = None,
) -> None:
    """Measure the training step alone, the loader alone and both together, and say which limits.

    Nothing is saved or validated, and files of initial weights are not needed.
    """
    from segmnv2.config import load_experiment

    experiment = load_experiment(config, override or ())
    check_json(json_out)

    from segmnv2.benchmark.training_speed import benchmark_training

    _show(benchmark_training(experiment, steps=steps), json_out)


@benchmark.command("infer")
def infer(
    weights: Annotated[
        str | None,
        typer.Argument(help="Model file or name; untrained weights by default.", show_default=False),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of images; generated ones by default.")
    ] = None,
    output_stride: Annotated[str, typer.Option(metavar="N,N", help="Output strides to measure.")] = "16,8",
    threads: Annotated[
        str | None, typer.Option(metavar="N,N", help="Numbers of threads to measure.", show_default="1 and all cores")
    ] = None,
    engines: Annotated[
        str | None,
        typer.Option(
            metavar="BACKEND:PRECISION,...",
            help="Engines and precisions of segmnv2, as openvino:int8,torch:float32.",
            show_default="all installed",
        ),
    ] = None,
    peers: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Other libraries.", show_default="all installed")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Measure torch.compile too, for segmnv2 and the peers: a minute each.")
    ] = False,
    multi_scale: Annotated[
        bool, typer.Option("--multi-scale", help="Six scales with flips, beside the plain eager loop.")
    ] = False,
    size: Annotated[int, typer.Option(help="Side of the images, which are scaled to it.")] = 513,
    batch: Annotated[int, typer.Option(help="Images at once.")] = 1,
    rounds: Annotated[int, typer.Option(metavar="N", help="Turns of each.")] = 8,
    burst: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Batches in each turn; the first ones of a turn are slower, because the caches are cold.",
        ),
    ] = 15,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Images for the calibration of int8.", show_default="--images"),
    ] = None,
    device: DeviceOption = "auto",
    json_out: JsonOption = None,
) -> None:
    """Measure label maps a second: backends and precisions beside other libraries, taking turns in one run."""
    from segmnv2.benchmark.compare import check_count
    from segmnv2.benchmark.contenders import Setting
    from segmnv2.benchmark.data import square_images
    from segmnv2.benchmark.inference_speed import Choice, benchmark_inference, parse_engines, parse_peers
    from segmnv2.benchmark.machine import core_count
    from segmnv2.hub.resolve import resolve_weights
    from segmnv2.inference.options import InferenceOptions

    for name, value in (("--size", size), ("--batch", batch), ("--rounds", rounds), ("--burst", burst)):
        check_count(name, value)
    options = InferenceOptions(size=size, multi_scale=multi_scale, flip=multi_scale, device=device, batch=batch)
    place = options.place.device
    strides = _parse_counts("--output-stride", output_stride)
    counts = sorted({1, core_count()}) if threads is None else _parse_counts("--threads", threads)
    note = partial(print, "note:", file=sys.stderr)
    ours = parse_engines(engines, place, compiled=compiled, on_skip=note)
    if not any(precision == "int8" for _, precision in ours):
        refuse_options("engines without int8", "leave it out, or give int8 engines", calibration=calibration)
    choice = Choice(ours, parse_peers(peers), compiled)
    check_json(json_out)
    shown, seen = square_images(images, size), square_images(calibration, size) if calibration is not None else ()
    path = None if weights is None else str(resolve_weights(weights))
    tables = []
    for stride in strides:
        for count in counts if place.type == "cpu" else counts[-1:]:
            setting = Setting(replace(options, output_stride=stride, threads=count), path, burst)
            tables.append(benchmark_inference(shown, setting, choice, rounds=rounds, calibration=seen, on_skip=note))
            print(
                f"## Output stride {stride}, {count} thread{'s' * (count > 1)}\n\n{tables[-1].to_markdown()}\n",
                file=text_stream(json_out),
            )
    write_json([table.to_dict() for table in tables], json_out)


def _parse_counts(option: str, text: str) -> list[int]:

    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ConfigError(f"{option} {text!r}: give numbers of at least 1 with commas between them, as 16,8")
    return [int(word) for word in words]


def _parse_workers(text: str) -> list[int]:

    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise ConfigError(f"--workers {text!r}: give numbers of at least 0 with commas between them, as 0,1,2")
    return [int(word) for word in words]


def _show(table: Table, json_out: Path | None) -> None:
    print(table.to_markdown(), file=text_stream(json_out))
    write_json(table.to_dict(), json_out)
