"""``segmnv2 import``, ``weights``, ``configs``, ``push`` and ``info``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segmnv2.cli.inference_options import Mirror
from segmnv2.cli.output import JsonOption, byte_progress, check_json, text_stream, write_json
from segmnv2.errors import ConfigError
from segmnv2.files.atomic import atomic_path, check_writable
from segmnv2.files.ownership import check_replaceable


def import_checkpoint(
    source: Annotated[
        str,
        typer.Argument(
            help="Checkpoint of TensorFlow (prefix or folder); folder of transformers or timm; .pth, .pt, .bin or "
            ".safetensors file of a torchvision or timm backbone; or owner/name on the Hugging Face Hub."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Safetensors file to write.")],
    output_stride: Annotated[int | None, typer.Option(help="8, 16 or 32; by default that of the source.")] = None,
    labels: Annotated[Path | None, typer.Option(help="YAML file of the classes.")] = None,
    ema: Annotated[bool, typer.Option("--ema", help="Import the moving averages instead of the weights.")] = False,
) -> None:
    """Convert a checkpoint of another library into one file, from which the model can be rebuilt."""
    from segmnv2.conversion.convert import import_checkpoint as convert
    from segmnv2.labels import LabelSet

    check_writable(out)
    names = LabelSet.from_yaml(labels) if labels else None
    print(convert(source, out, output_stride=output_stride, labels=names, ema=ema))


def configs(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Experiments to copy; all by default.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to copy to; the current one by default.")
    ] = None,
) -> None:
    """List the experiments of the package, or copy them for editing.

    With names, these are copied; with --out alone, all are. `segmnv2 train NAME` uses one without a copy, and `-o
    KEY=VALUE` replaces a value.
    """
    from segmnv2.config.reading import find_config, list_configs, summary_of

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


weights = typer.Typer(help="List published weights, or download them and print their path.", no_args_is_help=True)


@weights.command("list")
def list_weights() -> None:
    """List the names and descriptions of the published weights, and whether they are in the cache."""
    from segmnv2.hub.cache import PUBLISHED, Entry, cache_folder

    for name, published in PUBLISHED.items():
        fault = Entry(cache_folder(), name).fault()
        state = _cache_state(fault)
        size = f", {published.archive.size / 1e6:.0f} MB to download" if published.archive and fault is not None else ""
        typer.echo(f"{name}: {published.summary} ({published.license}); {state}{size}")
        typer.echo(f"    {published.origin}")
    typer.echo(f"cache: {cache_folder()}")


def _cache_state(fault: str | None) -> str:
    return "in the cache" if fault is None else "damaged in the cache" if fault else "not in the cache"


@weights.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A name of `segmnv2 weights list`, or owner/name on the Hub.")],
    mirror: Mirror = None,
) -> None:
    """Download weights into the cache, check them, and print their path.

    Complete files are used again. An interrupted download is resumed.
    """
    from segmnv2.hub.resolve import resolve_weights

    typer.echo(resolve_weights(name, mirror=mirror, track=byte_progress))


def push(
    source: Annotated[str, typer.Argument(help="File of weights that this library wrote, or a folder of --dry-run.")],
    name: Annotated[str, typer.Argument(help="owner/name of the repository; created if it does not exist.")],
    license: Annotated[
        str | None,
        typer.Option(help="Identifier of the license, such as apache-2.0; not for a folder."),
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="File of `segmnv2 evaluate --json`, for the model card.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch; the main one by default.")] = None,
    dry_run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the files to this folder instead of the Hub.")
    ] = None,
) -> None:
    """Publish weights on the Hugging Face Hub, with their description and a model card."""
    from segmnv2.hub.publish import push_to_hub, save_pretrained

    if dry_run is not None:
        if license is None:
            raise ConfigError("--license is missing; give the identifier of the license, such as apache-2.0")
        typer.echo(save_pretrained(source, dry_run, name=name, license=license, evaluation=evaluation))
        return
    typer.echo(push_to_hub(source, name, license=license, evaluation=evaluation, private=private, revision=revision))


PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "timm", "lightning", "openvino", "onnxruntime")


def info(json_out: JsonOption = None) -> None:
    """Print versions, engines, devices and cached weights, for example for a bug report."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from segmnv2 import __version__
    from segmnv2.benchmark.machine import core_count
    from segmnv2.engines.selection import ENGINES, refuse_engine
    from segmnv2.hub.cache import PUBLISHED, Entry, cache_folder

    def find_version(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    check_json(json_out)
    cpu = torch.device("cpu")
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    values = {
        "segmnv2": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {package: find_version(package) for package in PACKAGES},
        "engines": {
            name: [precision for precision in engine.precisions if refuse_engine(name, precision, cpu) is None]
            for name, engine in ENGINES.items()
        },
        "devices": {
            "cpu": f"{core_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
            **{f"cuda:{number}": name for number, name in enumerate(gpus)},
            **({"mps": platform.processor()} if torch.backends.mps.is_available() else {}),
        },
        "cache": str(cache_folder()),
        "weights": {name: _cache_state(Entry(cache_folder(), name).fault()) for name in PUBLISHED},
    }
    for title, value in values.items():
        lines = value.items() if isinstance(value, dict) else [("", value)]
        for number, (name, text) in enumerate(lines):
            words = ", ".join(text) or "cannot run on this machine" if isinstance(text, list) else text
            line = f"{title if number == 0 else '':<10}{f'{name}: ' * bool(name)}{words}"
            print(line, file=text_stream(json_out))
    write_json(values, json_out)
