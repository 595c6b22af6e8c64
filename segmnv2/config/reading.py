"""Readers of experiments: YAML files, ``key=value`` overrides, and the experiments of the package by name."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import ValidationError

from segmnv2.config.faults import describe_faults
from segmnv2.errors import ConfigError
from segmnv2.files.yaml_documents import dump_yaml, parse_yaml, read_yaml
from segmnv2.lazy_registry import Registry

if TYPE_CHECKING:
    from segmnv2.config.classification_schema import ClassificationExperiment
    from segmnv2.config.detection_schema import DetectionExperiment
    from segmnv2.config.segmentation_schema import Experiment

FOLDER = "configs"


def list_configs() -> dict[str, Path]:
    """Return name -> YAML file of the experiments of the package, sorted."""
    package = Path(__file__).resolve().parents[1]
    # In a wheel, the folder is inside the package; in a clone, it is next to it.
    folder = next((home / FOLDER for home in (package, package.parent) if (home / FOLDER).is_dir()), package)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_config(name: str | Path) -> Path:
    """Return the file of an experiment.

    Args:
        name: an existing YAML file, or the name of an experiment of the package, such as ``shapes`` or
            ``configs/shapes.yaml``.

    Raises:
        ConfigError: neither such a file nor such an experiment exists.
    """
    path, given = Path(name), PurePath(name)
    shipped = list_configs()
    if path.is_file():
        return path
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; give the YAML file of an experiment")
    if given.parent in (PurePath(), PurePath(FOLDER)) and given.suffix in ("", ".yaml") and given.stem in shipped:
        return shipped[given.stem]
    near = difflib.get_close_matches(given.stem, shipped, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(
        f"{path}: there is no such file and no experiment of that name; {meant}give the YAML file of an experiment, or "
        "a name that `segmnv2 configs` lists"
    )


def summary_of(path: Path) -> str:
    """Return the first sentence of the comment at the start of an experiment's file."""
    lines = (line.lstrip("#").strip() for line in path.read_text(encoding="utf-8").splitlines())
    # A period before a number belongs to an abbreviation, as in "et al. 2018".
    return re.split(r"\. (?!\d)", " ".join(itertools.takewhile(bool, lines)), maxsplit=1)[0].rstrip(".")


AnyExperiment: TypeAlias = "Experiment | ClassificationExperiment | DetectionExperiment"

SCHEMAS: Registry[type[AnyExperiment]] = Registry(
    "segmnv2.config",
    {
        "segmentation": "segmentation_schema:Experiment",
        "classification": "classification_schema:ClassificationExperiment",
        "detection": "detection_schema:DetectionExperiment",
    },
)
"""Task -> schema of its experiments."""


def load_any_experiment(path: str | Path, overrides: Sequence[str] = ()) -> AnyExperiment:
    """Read an experiment of any task.

    Args:
        path: a YAML file, or the name of an experiment of the package; see :func:`find_config`.
        overrides: texts ``section.key=value``, with the value in YAML. They replace values of the file before anything
            is checked. A mapping is replaced as a whole.

    Raises:
        ConfigError: the file is missing or not YAML, an override is malformed, or keys or values are wrong. One message
            lists all faults.
    """
    return parse_any_experiment(_read(find_config(path)), overrides, source=str(path))


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment in segmentation, as :func:`load_any_experiment` does.

    Raises:
        ConfigError: as for :func:`load_any_experiment`, or the experiment is of another task.
    """
    return _only_segmentation(load_any_experiment(path, overrides), str(path))


def parse_experiment(
    values: Mapping[str, Any], overrides: Sequence[str] = (), source: str = "experiment"
) -> Experiment:
    """Check an experiment in segmentation that is given as plain values.

    Args:
        values: nested mappings with the keys of :class:`segmnv2.config.segmentation_schema.Experiment`.
        overrides: as for :func:`load_any_experiment`.
        source: name of the values in error messages.

    Raises:
        ConfigError: as for :func:`load_experiment`.
    """
    return _only_segmentation(parse_any_experiment(values, overrides, source), source)


def parse_any_experiment(
    values: Mapping[str, Any], overrides: Sequence[str] = (), source: str = "experiment"
) -> AnyExperiment:
    """Check an experiment of any task that is given as plain values.

    Args:
        values: nested mappings with the keys of the task in ``task``, which is segmentation by default.
        overrides: as for :func:`load_any_experiment`.
        source: name of the values in error messages.

    Raises:
        ConfigError: as for :func:`load_any_experiment`.
    """
    merged, faults = _merge(values, overrides)
    task = merged.get("task", "segmentation")
    if not isinstance(task, str) or task not in SCHEMAS:  # without the task, other keys cannot be checked
        raise ConfigError(f"{source}: task: {task!r} is not possible; give {' or '.join(map(repr, SCHEMAS))}")
    schema = SCHEMAS[task]
    experiment: AnyExperiment | None = None
    try:
        experiment = schema.model_validate(merged)
    except ValidationError as error:
        faults += describe_faults(error, merged, schema)
    if faults or experiment is None:
        given = f" with {' '.join(f'-o {override}' for override in overrides)}" if overrides else ""
        title = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError("\n  ".join([f"{source}{given}: {title}", *faults]))
    return experiment


def _only_segmentation(experiment: AnyExperiment, source: str) -> Experiment:
    if experiment.task != "segmentation":
        raise ConfigError(
            f"{source}: its task is {experiment.task}, but this command is for segmentation; give an experiment in "
            "segmentation (`segmnv2 train` accepts all tasks)"
        )
    return experiment


def write_experiment(path: Path, experiment: AnyExperiment) -> None:
    """Write an experiment, including defaults, as a YAML file for :func:`load_any_experiment`.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_text(dump_yaml(experiment.to_dict()), encoding="utf-8")


def _read(path: Path) -> Mapping[str, Any]:
    values = read_yaml(path, "give the YAML file of an experiment")
    if not isinstance(values, dict):
        content = "nothing" if values is None else f"a {type(values).__name__}"
        keys = ", ".join(SCHEMAS["segmentation"].model_fields)
        raise ConfigError(f"{path}: holds {content}; give a mapping with the keys {keys}")
    return values


def _merge(values: Mapping[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the values with the overrides applied, and the faults of the overrides themselves."""
    merged: dict[str, Any] = _unshared(values)
    faults: list[str] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            faults.append(f"-o {override}: is not an override; give section.key=value, such as optimizer.lr=0.01")
            continue
        try:
            value = parse_yaml(text, f"-o {override}", "quote text with special characters")
        except ConfigError as error:
            faults.append(str(error))
            continue
        faults += _put(merged, path, value, override)
    return merged, faults


def _unshared(value: Any) -> Any:
    """Return a copy in which a section that two keys share becomes two separate sections."""
    return {key: _unshared(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value


def _put(merged: dict[str, Any], path: Sequence[str], value: Any, override: str) -> list[str]:
    *sections, last = path
    mapping = merged
    for number, section in enumerate(sections, start=1):
        if mapping.get(section) is None:
            mapping[section] = {}
        if not isinstance(mapping[section], dict):
            return [f"-o {override}: '{'.'.join(sections[:number])}' is {mapping[section]!r} and has no keys"]
        mapping = mapping[section]
    mapping[last] = value
    return []
