"""The ``segmnv2`` command line: its commands by name, and the conversion of errors to messages."""

from __future__ import annotations

import atexit
import gc
import io
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Annotated, Any

import typer

from segmnv2 import __version__
from segmnv2.cli.output import protect_outputs
from segmnv2.errors import ConfigError, SegmnError, SegmnWarning
from segmnv2.lazy_registry import Registry
from segmnv2.signals import interrupting, report_end

BAD_INPUT = 2
"""Exit code for wrong input, such as an unknown option or a damaged file."""

INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, the same as in shells."""

atexit.register(gc.freeze)  # without this, Python's garbage collections at exit take most of a second

COMMANDS: Registry[Callable[..., None] | typer.Typer] = Registry(
    "segmnv2.cli",
    {
        "import": "weights:import_checkpoint",
        "infer": "infer:infer",
        "evaluate": "evaluate:evaluate",
        "compare": "evaluate:compare",
        "export": "export:export",
        "verify": "export:verify",
        "report": "report:report",
        "plan": "report:plan",
        "train": "train:train",
        "configs": "weights:configs",
        "benchmark": "benchmark:benchmark",
        "demo": "train:demo",
        "check-data": "data_sets:check_data",
        "prepare-voc": "data_sets:prepare_voc",
        "prepare-coco": "data_sets:prepare_coco",
        "weights": "weights:weights",
        "push": "weights:push",
        "info": "weights:info",
    },
)
"""Name -> function or group of commands. ``segmnv2 --help`` lists the groups last."""


HABITS = {
    "predict": "infer",
    "detect": "infer",
    "segment": "infer",
    "label": "infer",
    "val": "evaluate",
    "validate": "evaluate",
    "eval": "evaluate",
    "test": "evaluate",
    "fit": "train",
    "finetune": "train",
    "convert": "import",
    "download": "weights",
    "check": "check-data",
    "version": "info",
    "doctor": "info",
}
"""Command of other programs -> command of segmnv2 that does the same."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"segmnv2 {__version__}")
        raise typer.Exit


def _segmnv2(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


@cache
def make_app(first: str = "") -> typer.Typer:
    """Return the application.

    If ``first`` names a command, only that command is imported and added. Otherwise all commands are.

    Args:
        first: first word of the command line.
    """
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Semantic segmentation for mobile devices: DeepLabv3 on MobileNetV2.",
    )
    app.callback()(_segmnv2)
    for name in [first] if first in COMMANDS else COMMANDS:
        command = COMMANDS[name]
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    protect_outputs(app)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    SIGTERM and SIGHUP stop a command as Ctrl-C does: incomplete files are removed, and `train` saves a state first.

    Args:
        arguments: words after the program's name; by default those of this process.

    Returns:
        The exit code: 0 for success, or 2 for wrong input, with one message on standard error. If a signal stopped the
        command, it is 128 plus the signal's number: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names may have characters that it cannot encode
            stream.reconfigure(errors="backslashreplace")
    with interrupting() as received, _plain_warnings():
        try:
            code = _run(arguments)
        except Exception:  # an interrupted library may raise any error
            if not received:
                raise
    return report_end(received[0]) if received else code


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print each warning of this library once, as one line."""
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *location: Any, **more: Any) -> None:
        if not issubclass(category, SegmnWarning):
            usual(message, category, *location, **more)
        elif str(message) not in shown:
            print(f"warning: {message}", file=sys.stderr)
            shown.add(str(message))

    with warnings.catch_warnings():
        usual, warnings.showwarning = warnings.showwarning, show
        yield


def _check_words(words: Sequence[str]) -> None:
    """Refuse empty words, which come from unset shell variables, and paths in ``~``, which Python does not expand.

    Raises:
        ConfigError: a word or the value of an option is empty or begins with ``~/``.
    """
    for before, word in zip(("command line", *words), words, strict=False):
        option, equals, value = word.partition("=")
        if not (equals and option.startswith("--")):
            option, value = before, word
        if not value:
            raise ConfigError(
                f"{option}: an empty word follows; set the shell variable that it comes from, or leave the option out"
            )
        if value == "~" or value.startswith("~/"):
            raise ConfigError(f"{word}: the shell did not replace ~ with your home folder; write $HOME instead")


def _run(arguments: Sequence[str] | None) -> int:
    try:
        words = sys.argv[1:] if arguments is None else list(arguments)
        _check_words(words)
        if words and words[0] in HABITS:
            raise ConfigError(f"{words[0]}: is not a command of segmnv2; use: segmnv2 {HABITS[words[0]]}")
        make_app(*words[:1])(args=words, prog_name="segmnv2")
    except SegmnError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        # Errors without a message of this library, such as a full disk or a folder without write access.
        print(f"error: {error}; choose a folder with free space and write access", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:  # raised by this library; typer turns one of a signal into SystemExit
        return INTERRUPTED
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0
