"""The ``segmnv2`` command: one module a subcommand, and the one place where errors become messages."""

from __future__ import annotations

import atexit
import gc
import io
import re
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
"""Exit code of everything that is the input's fault; unknown options have it too."""

INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, as shells have it."""

OPTION_VALUE = re.compile(r"(?:(--[\w-]+)=)?(.*)", re.DOTALL)
"""A word of the command line, as ``--out=results``: the option, if it has its value with it, and the rest."""

atexit.register(gc.freeze)  # Python searches all objects for garbage twice before it ends, which takes most of a second

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
"""Name -> function, or group of commands, which ``segmnv2 --help`` lists after the others."""


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
"""Names of other programs' commands -> the command here that does the same."""


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
    """Return the application: with the command of that name alone, which is all that is imported, or with all commands.

    Args:
        first: first word of the command line.
    """
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Mobile semantic segmentation: DeepLabv3 on MobileNetV2, the paper's own network.",
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

    SIGTERM and SIGHUP end each command as Ctrl-C does: no half-written file is kept, and `train` saves a state first.

    Args:
        arguments: the words after the program's name; those of this process by default.

    Returns:
        0 when all went well; 2 when the input is at fault (one message is on standard error); 128 plus the number of
        the signal when one ended it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names may have letters that a redirected stream cannot encode
            stream.reconfigure(errors="backslashreplace")
    with interrupting() as received, _plain_warnings():
        try:
            code = _run(arguments)
        except Exception:  # a library that was interrupted in its midst may raise anything
            if not received:
                raise
    return report_end(received[0]) if received else code


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print this library's own warnings as one line each, and each once."""
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, SegmnWarning):
            usual(message, category, *place, **more)
        elif str(message) not in shown:
            print(f"warning: {message}", file=sys.stderr)
            shown.add(str(message))

    with warnings.catch_warnings():
        usual, warnings.showwarning = warnings.showwarning, show
        yield


def _check_words(words: Sequence[str]) -> None:
    """Refuse empty words, of shell variables that are not set, and ``~``, which would be a folder of that name.

    Raises:
        ConfigError: there is one, alone or as the value of an option.
    """
    for before, word in zip(("command line", *words), words, strict=False):
        found = OPTION_VALUE.match(word)
        assert found is not None  # it matches every text
        option, value = found.groups()
        if not value:
            raise ConfigError(
                f"{option or before}: an empty word follows; if it is a shell variable, set it, else leave the option "
                "out"
            )
        if value == "~" or value.startswith("~/"):
            raise ConfigError(f"{word}: the shell did not replace ~ by your home folder; write $HOME in its place")


def _run(arguments: Sequence[str] | None) -> int:
    try:
        words = sys.argv[1:] if arguments is None else list(arguments)
        _check_words(words)
        if words and words[0] in HABITS:
            raise ConfigError(f"{words[0]}: is no command of segmnv2; use: segmnv2 {HABITS[words[0]]}")
        make_app(*words[:1])(args=words, prog_name="segmnv2")
    except SegmnError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        # What is not said in better words where it happens: a full disk, a folder without write access.
        print(f"error: {error}; choose a place with room and write access", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:  # of the library's own; typer turns those of signals into SystemExit
        return INTERRUPTED
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0
