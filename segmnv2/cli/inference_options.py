"""Options that several commands share, among them those of inference."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from segmnv2.errors import ConfigError

if TYPE_CHECKING:
    from segmnv2.inference.canvas import Size
    from segmnv2.inference.options import InferenceOptions


Archives = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of existing and downloaded archives; ROOT/archives by default."),
]

Mirror = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Download files of the same names from this URL instead of the publisher."),
]


Config = Annotated[Path, typer.Argument(help="YAML file of an experiment, or a name of `segmnv2 configs`.")]

Override = Annotated[
    list[str] | None,
    typer.Option(
        "-o", "--override", metavar="KEY=VALUE", help="Replace a value, such as optimizer.lr=1e-2; repeatable."
    ),
]


def parse_scales(scales: str | None, multi_scale: bool) -> bool | tuple[float, ...]:
    """Parse ``--scales`` and ``--multi-scale``, of which at most one may be given.

    Raises:
        ConfigError: both are given, or ``--scales`` is not a list of numbers above 0 with commas between.
    """
    from segmnv2.inference.canvas import SCALES, check_scales

    if scales is None:
        return multi_scale
    if multi_scale:
        raise ConfigError(f"--scales {scales}: --multi-scale means {SCALES}; give one of the two")
    try:
        return check_scales([float(word) for word in scales.split(",")])
    except ValueError:
        raise ConfigError(
            f"--scales {scales!r}: give numbers above 0 with commas between, such as 0.75,1,1.25"
        ) from None


def parse_size(text: str) -> Size:
    """Parse ``--size``.

    Raises:
        ConfigError: the text is neither an integer of at least 17 nor ``native``.
    """
    from segmnv2.inference.canvas import check_size

    return check_size(int(text) if text.isdecimal() else text)


def check_inputs(paths: Mapping[str, Path | None]) -> None:
    """Check that files and folders exist, before any work.

    Args:
        paths: option -> its path, or ``None`` if the option was not given.

    Raises:
        ConfigError: a path does not exist; the message names all missing ones.
    """
    missing = [f"{name} {path}" for name, path in paths.items() if path is not None and not path.exists()]
    if missing:
        raise ConfigError(f"{', '.join(missing)}: there is no such file or folder; check the path")


def refuse_options(who: str, remedy: str, **options: Any) -> None:
    """Refuse options that have no effect here.

    Args:
        who: subject of the message, in the plural, such as "detectors".
        remedy: what to do, for the message.
        options: name -> value; ``None`` and ``False`` mean that the option was not given.

    Raises:
        ConfigError: at least one option was given.
    """
    given = [name for name, value in options.items() if value is not None and value is not False]
    if given:
        flags = ", ".join("--" + name.replace("_", "-") for name in given)
        raise ConfigError(f"{flags}: {who} have no such option; {remedy}")


Command = TypeVar("Command", bound=Callable[..., None])

DeviceOption = Annotated[
    str,
    typer.Option(help="auto, cpu, cuda, cuda:N or mps; auto uses a GPU if it can run the chosen options."),
]

ThreadsOption = Annotated[int | None, typer.Option(help="Threads on the CPU.", show_default="PyTorch's")]

CalibrationOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="For int8: 50 or more images similar to your images; at most 100 are used."),
]

SEGMENTERS = ("output_stride", "size", "multi_scale", "scales", "flip")
ENGINES = ("device", "backend", "precision", "threads", "calibration")
"""Names of options that commands accept or refuse together."""


@dataclass(frozen=True)
class InferenceArguments:
    """Options of inference as the user gave them, with their types and help texts.

    Where the default is ``None``, ``--help`` shows the library's default.
    """

    output_stride: Annotated[
        int | None, typer.Option(help="8, 16 or 32: smaller is finer and slower.", show_default="that of the file")
    ] = None
    size: Annotated[
        str | None,
        typer.Option(
            help="Longest side of the model's input, in pixels, at least 17. Smaller images are padded. Larger images "
            "are scaled down, and their labels back up. 'native': no scaling.",
            show_default="513",
        ),
    ] = None
    multi_scale: Annotated[bool, typer.Option("--multi-scale", help="Average over six scales, 0.5 to 1.75.")] = False
    scales: Annotated[
        str | None,
        typer.Option(
            metavar="S,S", help="Average over these scales, such as 0.75,1,1.25; fewer are faster than --multi-scale."
        ),
    ] = None
    flip: Annotated[bool, typer.Option("--flip", help="Average over the image and its mirror image.")] = False
    backend: Annotated[
        str | None,
        typer.Option(
            help="Engine: torch starts at once; openvino and onnxruntime are faster after seconds of conversion; "
            "torch-compile; auto uses the fastest installed engine with the requested precision.",
            show_default="torch",
        ),
    ] = None
    precision: Annotated[
        str | None,
        typer.Option(
            help="float32; bfloat16 (faster, changes a few labels); float16 (GPUs only); int8 (needs --calibration).",
            show_default="float32",
        ),
    ] = None
    device: DeviceOption = "auto"
    threads: ThreadsOption = None
    calibration: CalibrationOption = None
    batch: Annotated[
        int | None,
        typer.Option(help="Images per call: 1 is fastest on a CPU; try 8 on a GPU.", show_default="1"),
    ] = None
    streams: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Images computed at the same time on a CPU, each in its own thread. For many images, the number of "
            "threads is fastest; for a few large images, 1.",
            show_default="number of threads, at most that of images; 1 with --batch or a --size above 1025",
        ),
    ] = None

    def refuse(self, who: str, remedy: str, but: Collection[str] = (), **others: Any) -> None:
        """Refuse options of inference, except the device, and other options.

        Args:
            who: as for :func:`refuse_options`, also the next argument.
            remedy: what to do, for the message.
            but: names of options of inference that are allowed.
            others: name -> value of other options to refuse.

        Raises:
            ConfigError: at least one of them was given.
        """
        refuse_options(who, remedy, **others, **{k: v for k, v in vars(self).items() if k not in ("device", *but)})

    def options(self, **defaults: Any) -> InferenceOptions:
        """Check the options, and return them.

        Args:
            defaults: defaults of the command that differ from the library's.

        Raises:
            ConfigError: a value is not possible.
        """
        from segmnv2.inference.options import InferenceOptions

        given = {name: value for name, value in vars(self).items() if value is not None}
        averaged = parse_scales(given.pop("scales", None), given.pop("multi_scale"))
        if self.size is not None:
            given["size"] = parse_size(self.size)
        return InferenceOptions(**{**defaults, **given, "multi_scale": averaged})


def takes_inference(*names: str, **help_texts: str) -> Callable[[Command], Command]:
    """Decorate a command with options of inference, which it receives as one argument ``inference``.

    Args:
        names: fields of :class:`InferenceArguments`.
        help_texts: option -> help text, for options that have another meaning in this command.
    """
    declared = get_type_hints(InferenceArguments, include_extras=True)

    def option(name: str) -> inspect.Parameter:
        annotation = declared[name]
        if name in help_texts:
            kind, known = annotation.__args__[0], annotation.__metadata__[0]
            annotation = Annotated[kind, typer.Option(*known.param_decls or (), help=help_texts[name])]
        default = getattr(InferenceArguments, name)
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    def wrap(command: Command) -> Command:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            given = {name: values.pop(name) for name in names}
            command(**values, inference=InferenceArguments(**given))

        signature = inspect.signature(command, eval_str=True)
        only_by_name = inspect.Parameter.KEYWORD_ONLY
        own = [item.replace(kind=only_by_name) for name, item in signature.parameters.items() if name != "inference"]
        parameters = [*own, *map(option, names)]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del run.__wrapped__
        return run  # type: ignore[return-value]

    return wrap
