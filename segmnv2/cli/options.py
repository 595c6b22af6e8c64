"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from segmnv2.inference.canvas import Size

Archives = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where the archives lie, or are downloaded to; ROOT/archives by default."),
]

Mirror = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Fetch from this folder, files of the same names, and not from the publisher."),
]


def flag(name: str) -> str:
    """Return the option of a name: ``--output-stride`` of ``output_stride``."""
    return "--" + name.replace("_", "-")


def parse_scales(scales: str | None, multi_scale: bool) -> bool | tuple[float, ...]:
    """Read ``--scales`` and ``--multi-scale``, of which one may be given.

    Raises:
        ConfigError: both are given, or ``--scales`` is not numbers above 0 with commas between them.
    """
    from segmnv2.errors import ConfigError
    from segmnv2.inference.multi_scale import SCALES, check_scales

    if scales is None:
        return multi_scale
    if multi_scale:
        raise ConfigError(f"--scales {scales}: --multi-scale means {SCALES}; give one of the two")
    try:
        return check_scales([float(word) for word in scales.split(",")])
    except ValueError:
        raise ConfigError(
            f"--scales {scales!r}: give numbers above 0 with commas between them, as 0.75,1,1.25"
        ) from None


def parse_size(text: str) -> Size:
    """Read ``--size``.

    Raises:
        ConfigError: neither an integer of at least 17 nor ``native``.
    """
    from segmnv2.inference.canvas import check_size

    return check_size(int(text) if text.isdecimal() else text)


def check_inputs(paths: Mapping[str, Path | None]) -> None:
    """Refuse files and folders that are not there, before any work.

    Args:
        paths: option -> what was given for it.

    Raises:
        ConfigError: some are missing; all are named.
    """
    from segmnv2.errors import ConfigError

    missing = [f"{name} {path}" for name, path in paths.items() if path is not None and not path.exists()]
    if missing:
        raise ConfigError(f"{', '.join(missing)}: there is no such file or folder; check the path")


def refuse_options(options: Mapping[str, Any], who: str, remedy: str) -> None:
    """Refuse options that are given and mean nothing.

    Args:
        options: name -> value; what is None, False or empty is not given.
        who: what has no such option, in the plural.
        remedy: what to do.

    Raises:
        ConfigError: some are given.
    """
    from segmnv2.errors import ConfigError

    given = [name for name, value in options.items() if value is not None and value is not False]
    if given:
        raise ConfigError(f"{', '.join(given)}: {who} have no such option; {remedy}")
