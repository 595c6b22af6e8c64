"""Every command of the command line replaces only files that this program wrote."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from segmnv2.errors import ConfigError
from segmnv2.files.ownership import OVERWRITE, protected

OUTPUTS = ("out", "json_out", "html_out", "fix", "masks_out", "detections_out", "dry_run")
"""Parameters of commands that name what is written. All other existing files and folders are inputs."""

LISTED_LATER = ("inputs",)
"""Parameters whose folders may hold results, too; the command protects the files that it takes of them."""

Overwrite = Annotated[
    bool, typer.Option(OVERWRITE, help="Replace files that segmnv2 did not write, or that were changed since.")
]


def protect_outputs(app: typer.Typer) -> None:
    """Run every command of an application under :func:`segmnv2.files.ownership.protected`.

    Commands that write get the option ``--overwrite``, if they have none.
    """
    for command in app.registered_commands:
        assert command.callback is not None
        command.callback = _protecting(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            protect_outputs(group.typer_instance)


def _protecting(command: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(command, eval_str=True)
    parameters = dict(signature.parameters)
    writes = any(name in OUTPUTS and not isinstance(each.default, bool) for name, each in parameters.items())
    adds = writes and "overwrite" not in parameters
    if adds:
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters["overwrite"] = inspect.Parameter("overwrite", kind, default=False, annotation=Overwrite)

    @wraps(command)
    def run(**options: Any) -> Any:
        overwrite = bool(options.pop("overwrite", False) if adds else options.get("overwrite"))
        _refuse_one_file_twice(options)
        with protected(_inputs(options), overwrite=overwrite):
            return command(**options)

    run.__signature__ = signature.replace(parameters=list(parameters.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return run


def _refuse_one_file_twice(options: dict[str, Any]) -> None:
    paths = [value for name, value in options.items() if name in OUTPUTS and isinstance(value, Path)]
    places = [path.resolve() for path in paths if path != Path("-")]
    for path, place in zip(paths, places, strict=False):
        if places.count(place) > 1 and not path.is_char_device():
            raise ConfigError(f"{path}: is given for two outputs of this command; give each its own place")


def _inputs(options: dict[str, Any]) -> Iterator[Path]:
    for name, value in options.items():
        if name in OUTPUTS or name in LISTED_LATER:
            continue
        for item in value if isinstance(value, (list, tuple)) else (value,):
            try:
                if isinstance(item, (str, Path)) and Path(item).exists():
                    yield Path(item)
            except (OSError, ValueError):  # a word that no file can be called
                continue
