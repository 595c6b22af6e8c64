"""The experiments that come with the package, by name."""

from __future__ import annotations

import difflib
import itertools
import re
from pathlib import Path, PurePath

from segmnv2.errors import ConfigError

FOLDER = "configs"


def list_configs() -> dict[str, Path]:
    """Return name -> YAML file of each experiment that comes with the package, sorted."""
    package = Path(__file__).resolve().parents[1]
    # In a wheel the folder is part of the package, in a clone it is beside it.
    folder = next((home / FOLDER for home in (package, package.parent) if (home / FOLDER).is_dir()), package)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_config(name: str | Path) -> Path:
    """Return the file of an experiment.

    Args:
        name: a YAML file, which is taken if it exists; else the name of an experiment of this package, as ``shapes`` or
            ``configs/shapes.yaml``.

    Raises:
        ConfigError: neither.
    """
    path, given = Path(name), PurePath(name)
    shipped = list_configs()
    if path.is_file():
        return path
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; name the YAML file of an experiment")
    if given.parent in (PurePath(), PurePath(FOLDER)) and given.suffix in ("", ".yaml") and given.stem in shipped:
        return shipped[given.stem]
    near = difflib.get_close_matches(given.stem, shipped, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(
        f"{path}: there is no such file and no experiment of that name; {meant}name the YAML file of an experiment, or "
        "one that `segmnv2 configs` lists"
    )


def summary_of(path: Path) -> str:
    """Return the first sentence of the comment that an experiment's file begins with."""
    lines = (line.lstrip("#").strip() for line in path.read_text(encoding="utf-8").splitlines())
    # A stop before a number ends an abbreviation, as in "et al. 2018".
    return re.split(r"\. (?!\d)", " ".join(itertools.takewhile(bool, lines)), maxsplit=1)[0].rstrip(".")
