"""``segmnv2 benchmark``: speed and accuracy on this machine."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segmnv2.cli.inference_options import (
    ENGINES,
    Config,
    DeviceOption,
    InferenceArguments,
    Override,
    ThreadsOption,
    refuse_options,
    takes_inference,
)
from segmnv2.cli.output import JsonOption, check_json, text_stream, write_json
from segmnv2.errors import ConfigError, counted

if TYPE_CHECKING:
    from segmnv2.benchmark.compare import Table

benchmark = typer.Typer(
    no_args_is_help=True,
    help="Measure speed on this machine: of your own model or experiment, compared with other libraries.",
)

Weights = Annotated[
    str | None, typer.Argument(help="Model file or name; untrained weights by default.", show_default=False)
]
Engines = Annotated[
    str | None,
    typer.Option(
        metavar="BACKEND:PRECISION,...",
        help="Engines and precisions of segmnv2, such as openvino:int8,torch:float32.",
        show_default="all installed",
    ),
]
Images = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of images; generated ones by default.")]
VocRoot = Annotated[
    Path | None, typer.Option("--root", metavar="DIR", help="VOCdevkit with real images; generated ones by default.")
]


@benchmark.command("data")
def data(
    config: Config,
    override: Override = None,
    batches: Annotated[int, typer.Option(metavar="N", help="Batches per measurement.")] = 20,
    workers: Annotated[str, typer.Option(metavar="N,N", help="Numbers of worker processes to measure.")] = "0,1,2",
    json_out: JsonOption = None,
) -> None:
    """Measure the training loader, and its stages on one core: decoding, augmentation, collation."""
    from segmnv2.config.reading import load_experiment

    experiment = load_experiment(config, override or ())
    counts = _parse_numbers("--workers", workers, least=0)
    check_json(json_out)

    from segmnv2.benchmark.data import benchmark_data

    _show(benchmark_data(experiment, batches=batches, workers=counts), json_out)


@benchmark.command("train")
def train(
    config: Config,
    override: Override = None,
    steps: Annotated[int, typer.Option(metavar="N", help="Steps per measurement, after a warm-up.")] = 20,
    json_out: JsonOption = None,
) -> None:
    """Measure the training step, the loader and both together, and print which one limits the speed.

    Nothing is saved or validated. The files of initial weights are not needed.
    """
    from segmnv2.config.reading import load_experiment

    experiment = load_experiment(config, override or ())
    check_json(json_out)

    from segmnv2.benchmark.training_speed import benchmark_training

    _show(benchmark_training(experiment, steps=steps), json_out)


@benchmark.command("infer")
def infer(
    weights: Weights = None,
    images: Images = None,
    output_stride: Annotated[str, typer.Option(metavar="N,N", help="Output strides to measure.")] = "16,8",
    threads: Annotated[
        str | None, typer.Option(metavar="N,N", help="Numbers of threads to measure.", show_default="1 and all cores")
    ] = None,
    engines: Engines = None,
    peers: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Other libraries.", show_default="all installed")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Measure torch.compile too, which takes minutes.")
    ] = False,
    multi_scale: Annotated[bool, typer.Option("--multi-scale", help="Measure six scales with flips.")] = False,
    size: Annotated[int, typer.Option(help="Side to which the images are scaled.")] = 513,
    batch: Annotated[int, typer.Option(help="Images per call.")] = 1,
    rounds: Annotated[int, typer.Option(metavar="N", help="Turns per engine and library.")] = 8,
    burst: Annotated[int, typer.Option(metavar="N", help="Batches per turn; the first ones are slower.")] = 15,
    calibration: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Images to calibrate int8 on.", show_default="--images")
    ] = None,
    device: DeviceOption = "auto",
    json_out: JsonOption = None,
) -> None:
    """Measure label maps per second of engines and precisions, and compare them with other libraries."""
    from segmnv2.benchmark.compare import check_count
    from segmnv2.benchmark.data import square_images
    from segmnv2.benchmark.inference_speed import Choice, Setting, benchmark_inference, parse_engines, parse_peers
    from segmnv2.benchmark.machine import core_count
    from segmnv2.hub.resolve import resolve_weights
    from segmnv2.inference.options import InferenceOptions

    for name, value in (("--size", size), ("--batch", batch), ("--rounds", rounds), ("--burst", burst)):
        check_count(name, value)
    options = InferenceOptions(size=size, multi_scale=multi_scale, flip=multi_scale, device=device, batch=batch)
    torch_device = options.place.device
    strides = _parse_numbers("--output-stride", output_stride)
    counts = sorted({1, core_count()}) if threads is None else _parse_numbers("--threads", threads)
    ours = parse_engines(engines, torch_device, compiled=compiled, on_skip=_note)
    if not any(precision == "int8" for _, precision in ours):
        refuse_options("engines without int8", "leave it out, or give int8 engines", calibration=calibration)
    choice = Choice(ours, parse_peers(peers), compiled)
    check_json(json_out)
    images_for_int8 = square_images(calibration, size) if calibration is not None else ()
    measure = partial(
        benchmark_inference, square_images(images, size), rounds=rounds, calibration=images_for_int8, on_skip=_note
    )
    path = None if weights is None else str(resolve_weights(weights))
    tables = []
    for stride in strides:
        for count in counts if torch_device.type == "cpu" else counts[-1:]:
            table = measure(Setting(replace(options, output_stride=stride, threads=count), path, burst), choice)
            title = f"Output stride {stride}, {counted(count, 'thread')}"
            print(f"## {title}\n\n{table.to_markdown()}\n", file=text_stream(json_out))
            tables.append(table.to_dict())
    write_json(tables, json_out)


@benchmark.command("folder")
@takes_inference("output_stride", *ENGINES)
def folder(
    weights: Weights = None,
    images: Images = None,
    count: Annotated[int, typer.Option(metavar="N", help="Images per round.")] = 16,
    rounds: Annotated[int, typer.Option(metavar="N", help="Measured rounds, after one warm-up round.")] = 6,
    batches: Annotated[str, typer.Option(metavar="N,N", help="Measure the pipeline with these batch sizes too.")] = "",
    streams: Annotated[str, typer.Option(metavar="N,N", help="Measure these numbers of streams too.")] = "",
    alone: Annotated[bool, typer.Option("--alone", help="Do not measure transformers.")] = False,
    overlays: Annotated[bool, typer.Option("--overlays", help="Measure segmnv2 with overlays too.")] = False,
    json_out: JsonOption = None,
    *,
    inference: InferenceArguments,
) -> None:
    """Measure inference on a folder of images: one by one, pipelined, in streams, and by transformers."""
    from segmnv2.benchmark.folder_speed import compare_folder
    from segmnv2.benchmark.inference_speed import Setting
    from segmnv2.hub.resolve import resolve_weights

    sizes = _parse_numbers("--batches", batches) if batches else ()
    counts = _parse_numbers("--streams", streams) if streams else ()
    check_json(json_out)
    setting = Setting(inference.options(), None if weights is None else str(resolve_weights(weights)))
    table = compare_folder(
        setting, images, count=count, rounds=rounds, batches=sizes, streams=counts, alone=alone, overlays=overlays
    )
    _show(table, json_out)


@benchmark.command("accuracy")
@takes_inference("output_stride", "size", "device", "threads")
def accuracy(
    weights: Annotated[str, typer.Argument(help="Model file with VOC's classes, or its name.", show_default=False)],
    root: Annotated[Path, typer.Option(metavar="DIR", help="VOCdevkit.", show_default=False)],
    engines: Engines = None,
    all_scales: Annotated[
        bool, typer.Option("--all-scales", help="Measure eight sets of scales, compared with six scales and flips.")
    ] = False,
    part: Annotated[
        str | None, typer.Option(help="chosen (every fourth val image) or judged (the others).", show_default="all val")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Number of val images, evenly distributed.", show_default="all")
    ] = None,
    calibration: Annotated[int, typer.Option(metavar="N", help="Train images to calibrate int8 on.")] = 100,
    json_out: JsonOption = None,
    *,
    inference: InferenceArguments,
) -> None:
    """Measure the accuracy of engines, precisions and scales on VOC, compared with PyTorch in float32."""
    from segmnv2.benchmark.engine_accuracy import ALL, ONE, PARTS, compare_accuracy
    from segmnv2.benchmark.inference_speed import parse_engines
    from segmnv2.hub.resolve import resolve_weights
    from segmnv2.models.model_file import load_model

    if part not in (None, *PARTS):
        raise ConfigError(f"--part: {part!r} is unknown; give one of {', '.join(PARTS)}")
    check_json(json_out)
    options = inference.options()
    ours = parse_engines(engines, options.place.device, on_skip=_note)
    show, scales = partial(print, file=text_stream(json_out), flush=True), ALL if all_scales else ONE
    model = load_model(resolve_weights(weights))
    values = compare_accuracy(
        model, root, ours, options, scales=scales, part=part, limit=limit, calibration=calibration, show=show
    )
    write_json(values, json_out)


@benchmark.command("train-peers")
def train_peers(
    root: VocRoot = None,
    crop: Annotated[int, typer.Option(help="Side of the crops; smp uses the next smaller multiple of 8.")] = 513,
    batch: Annotated[int, typer.Option(help="Crops per step.")] = 4,
    steps: Annotated[int, typer.Option(metavar="N", help="Measured steps per library, after --warm-up.")] = 10,
    warm_up: Annotated[int, typer.Option(metavar="N", help="Steps before the measurement.")] = 2,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="On a GPU, measure segmnv2 with bfloat16 autocast too.")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Measure segmnv2 with torch.compile too.")] = False,
    smp_stride_16: Annotated[bool, typer.Option("--smp-stride-16", help="Measure smp at stride 16 too.")] = False,
    json_out: JsonOption = None,
) -> None:
    """Compare training steps of segmnv2, transformers and smp on the same batches, in alternating turns."""
    from segmnv2.benchmark.train_peers import StepSetting, compare_steps

    check_json(json_out)
    setting = StepSetting(root, crop, batch, steps, warm_up, device, threads)
    _show(compare_steps(setting, bf16=bf16, compiled=compiled, smp_stride_16=smp_stride_16), json_out)


@benchmark.command("gpu")
def gpu(
    root: VocRoot = None,
    crop: Annotated[int, typer.Option(help="Side of crops and images, a multiple of 16 plus 1.")] = 513,
    batch: Annotated[int, typer.Option(help="Crops per training step.")] = 16,
    batches: Annotated[str, typer.Option(metavar="N,N", help="Batch sizes of inference to measure.")] = "1,8,32",
    output_stride: Annotated[str, typer.Option(metavar="N,N", help="Output strides to train at.")] = "16,8",
    burst: Annotated[int, typer.Option(metavar="N", help="Steps, or batches of images, per turn.")] = 5,
    rounds: Annotated[int, typer.Option(metavar="N", help="Largest number of turns per measurement.")] = 15,
    seconds: Annotated[float, typer.Option(help="Time limit; the report lists skipped measurements.")] = 420.0,
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="Measure torch.compile too.")] = True,
    device: DeviceOption = "auto",
    json_out: JsonOption = None,
) -> None:
    """Measure training and inference on a GPU, by precision, and compare with other libraries."""
    from segmnv2.benchmark.gpu.gpu_report import benchmark_gpu
    from segmnv2.benchmark.gpu.gpu_setting import GpuSetting

    check_json(json_out)
    counts, strides = _parse_numbers("--batches", batches), _parse_numbers("--output-stride", output_stride)
    numbers = (tuple(counts), tuple(strides), burst, rounds, seconds)
    tables = {}
    for title, table in benchmark_gpu(GpuSetting(root, crop, batch, *numbers, compiled, device)):
        print(f"## {title}\n\n{table.to_markdown()}\n", file=text_stream(json_out), flush=True)
        tables[title] = table.to_dict()
    write_json(tables, json_out)


@benchmark.command("data-peers")
def data_peers(
    root: VocRoot = None,
    crop: Annotated[int, typer.Option(help="Side of the crops.")] = 513,
    batch: Annotated[int, typer.Option(help="Crops per batch.")] = 8,
    batches: Annotated[int, typer.Option(metavar="N", help="Measured batches per library.")] = 20,
    json_out: JsonOption = None,
) -> None:
    """Compare the training loader with torchvision v2 doing the same work, on the same files and one core."""
    from segmnv2.benchmark.data_peers import compare_loaders

    check_json(json_out)
    _show(compare_loaders(root, crop=crop, batch=batch, batches=batches), json_out)


def _parse_numbers(option: str, text: str, least: int = 1) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) >= least for word in words):
        example = "16,8" if least else "0,1,2"
        raise ConfigError(f"{option} {text!r}: give integers from {least} with commas between, such as {example}")
    return [int(word) for word in words]


def _note(reason: str) -> None:
    print("note:", reason, file=sys.stderr)


def _show(table: Table, json_out: Path | None) -> None:
    print(table.to_markdown(), file=text_stream(json_out))
    write_json(table.to_dict(), json_out)
