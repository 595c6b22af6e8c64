"""Output of commands: results as text and JSON, progress bars, and the protection of other programs' files."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from segmnv2.errors import ConfigError
from segmnv2.files.atomic import atomic_path, check_writable
from segmnv2.files.ownership import OVERWRITE, protected

if TYPE_CHECKING:
    from segmnv2.evaluation.result import Result


OUTPUTS = ("out", "json_out", "html_out", "fix", "masks_out", "detections_out", "dry_run")
"""Parameters of commands that name outputs. Existing files and folders in all other parameters are inputs."""

LISTED_LATER = ("inputs",)
"""Input parameters whose folders may also hold results. The command protects only the files that it reads there."""

Overwrite = Annotated[
    bool, typer.Option(OVERWRITE, help="Replace files that segmnv2 did not write or that changed since.")
]


def protect_outputs(app: typer.Typer) -> None:
    """Make every command of an application run inside :func:`segmnv2.files.ownership.protected`.

    Commands that write files also get the option ``--overwrite``, unless they have one.
    """
    for command in app.registered_commands:
        assert command.callback is not None
        command.callback = _protecting(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            protect_outputs(group.typer_instance)


def _protecting(command: Callable[..., Any]) -> Callable[..., Any]:
    if hasattr(command, "protects"):  # several applications share the commands of a group
        return command
    signature = inspect.signature(command, eval_str=True)
    parameters = dict(signature.parameters)
    writes = any(name in OUTPUTS and not isinstance(parameter.default, bool) for name, parameter in parameters.items())
    needs_option = writes and "overwrite" not in parameters
    if needs_option:
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters["overwrite"] = inspect.Parameter("overwrite", kind, default=False, annotation=Overwrite)

    @wraps(command)
    def run(**options: Any) -> Any:
        overwrite = bool(options.pop("overwrite", False) if needs_option else options.get("overwrite"))
        _check_outputs_differ(options)
        with protected(_inputs(options), overwrite=overwrite):
            return command(**options)

    run.__signature__ = signature.replace(parameters=list(parameters.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    run.protects = True  # type: ignore[attr-defined]
    return run


def _check_outputs_differ(options: dict[str, Any]) -> None:
    paths = [value for name, value in options.items() if name in OUTPUTS and isinstance(value, Path)]
    resolved = [path.resolve() for path in paths if path != STANDARD_OUTPUT]
    for path in paths:
        if resolved.count(path.resolve()) > 1 and not path.is_char_device():
            raise ConfigError(f"{path}: is given for two outputs of this command; give each output its own path")


def _inputs(options: dict[str, Any]) -> Iterator[Path]:
    for name, value in options.items():
        if name in OUTPUTS or name in LISTED_LATER:
            continue
        for item in value if isinstance(value, (list, tuple)) else (value,):
            try:
                if isinstance(item, (str, Path)) and Path(item).exists():
                    yield Path(item)
            except (OSError, ValueError):  # not a possible file name
                continue


STANDARD_OUTPUT = Path("-")

JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write the figures as JSON too. With -, JSON goes to standard output and text to standard error.",
    ),
]


def check_json(json_out: Path | None) -> None:
    """Check that the file of ``--json`` can be written, before the work begins.

    Raises:
        ConfigError: the file cannot be written.
    """
    if json_out not in (None, STANDARD_OUTPUT):
        check_writable(json_out)


def text_stream(json_out: Path | None) -> TextIO:
    """Return the stream for text: standard output, or standard error if JSON goes to standard output."""
    return sys.stderr if json_out == STANDARD_OUTPUT else sys.stdout


def write_json(values: Any, json_out: Path | None) -> None:
    """Write figures to the file of ``--json``, if it is given.

    Args:
        values: figures, as JSON values.
        json_out: the file, ``-`` for standard output, or ``None``.

    Raises:
        OSError: the file cannot be written.
    """
    from segmnv2.files.documents import dump_json

    if json_out is None:
        return
    text = dump_json(values, indent=1)
    if json_out == STANDARD_OUTPUT:
        print(text)
        return
    with atomic_path(json_out) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def show_result(result: Result, weights: Path, place: Mapping[str, Any], json_out: Path | None) -> None:
    """Print an evaluation as a table, and write its figures to the file of ``--json``, if it is given.

    Args:
        result: the evaluation.
        weights: file of the model.
        place: data set, folder and split of the images, as JSON values.
        json_out: the file, ``-`` for standard output, or ``None``.
    """
    from rich.console import Console
    from rich.markdown import Markdown

    table, stream = result.to_markdown(), text_stream(json_out)
    console = Console(file=stream)
    console.print(Markdown(table)) if console.is_terminal else print(table, file=stream)
    write_json(result.of(weights, place).to_dict(), json_out)


@contextmanager
def image_progress(total: int | None, unit: str = "images") -> Iterator[Callable[[], None]]:
    """Show finished images, images per second and the remaining time on standard error while the block runs.

    Without a terminal, nothing is shown.

    Args:
        total: number of images; ``None`` hides the remaining time.
        unit: unit of progress, in the plural.

    Yields:
        A function to call after each image.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=total, rate="")

        def advance() -> None:
            progress.advance(task)
            speed = progress.tasks[task].speed
            progress.update(task, rate=f"{speed:.1f} {unit}/s" if speed else "")

        yield advance


@contextmanager
def byte_progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show finished bytes, bytes per second and the remaining time on standard error while the block runs.

    Without a terminal, only the title and the total are shown.

    Args:
        title: description of the work.
        total: total number of bytes.

    Yields:
        A function to call with the number of bytes finished since the last call.
    """
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        console.print(f"{title} ({decimal(total)})", markup=False, highlight=False, soft_wrap=True)
        yield lambda done: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.advance(task, done)
