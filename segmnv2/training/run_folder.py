"""The folder of a run: its files, the checks before a new run uses it, and the state to resume from."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segmnv2.config.reading import AnyExperiment, load_any_experiment, write_experiment
from segmnv2.errors import ConfigError, SegmnError, WeightsError
from segmnv2.files.atomic import atomic_path
from segmnv2.files.ownership import check_replaceable, claim
from segmnv2.training.logs import read_rows

FREE_KEYS = {
    *("name", "output", "device", "channels_last", "log.every", "log.pictures", "log.wandb"),
    *("checkpoint.every", "checkpoint.keep", "validation.every", "data.num_workers", "processes"),
    *("model.weights", "model.backbone_weights", "model.keep_logits", "sizes.train", "sizes.val"),
    *(f"data.{part}.{key}" for part in ("train", "val") for key in ("root", "images", "annotations", "labels")),
}
"""Keys that may differ when a run is resumed.

Paths may change, because their images and classes are compared. Initial weights may change, because the state has newer
ones. Other file sizes and numbers of processes affect the rest of the run and are reported.
"""

GROWING_KEYS = ("steps", "epochs")
"""Keys that may be raised; the learning rate then follows the schedule of the longer run."""

RECORDED = ("processes", "normalization", "frozen_norms", "classes", "images", "sizes")
"""Keys of a record besides those of the experiment; states of earlier versions lack some."""

LISTED = 10  # keys that a message names at most

Record = dict[str, Any]
"""Plain values by key on which the results of a run depend, besides the tensors of a state."""


@dataclass(frozen=True)
class RunFolder:
    """Files of the run in the folder ``path``."""

    path: Path

    @property
    def config(self) -> Path:
        """File of the experiment with all defaults."""
        return self.path / "config.yaml"

    @property
    def last(self) -> Path:
        """File of the model at the latest validation."""
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        """File of the model at the best validation."""
        return self.path / "best.safetensors"

    @property
    def state(self) -> Path:
        """File of the latest state, from which the run can be resumed."""
        return self.path / "last.ckpt"

    def state_of(self, step: int) -> Path:
        """Return the file of a step's state, which exists if several states are kept."""
        return self.path / f"step_{step:08d}.ckpt"

    def states(self) -> list[Path]:
        """Return the kept states, the latest first."""
        return sorted(self.path.glob("step_" + 8 * "[0-9]" + ".ckpt"), reverse=True)

    @property
    def metrics(self) -> Path:
        """Table of losses and validations."""
        return self.path / "metrics.csv"

    @property
    def picture(self) -> Path:
        """Curves of the losses and validations."""
        return self.path / "results.png"

    @property
    def tensorboard(self) -> Path:
        """Folder of losses and validations for TensorBoard."""
        return self.path / "tensorboard"

    @property
    def wandb_id(self) -> Path:
        """File with the run's id at Weights & Biases, which a resumed run uses again."""
        return self.path / "wandb_id.txt"

    def _existing_files(self) -> list[Path]:
        checkpoints = (self.last, self.best, self.state, *self.states())
        files = (self.config, *checkpoints, self.metrics, self.picture, self.tensorboard, self.wandb_id)
        return [file for file in files if file.exists()]

    def _holds_results(self) -> bool:
        """Return whether the folder has a state, a model or a row in its table."""
        return self.can_resume() or self.last.exists() or self.best.exists() or bool(read_rows(self.metrics))

    def begin(self, experiment: AnyExperiment, *, overwrite: bool = False, unfinished: bool = False) -> None:
        """Prepare the folder for a new run; files that do not belong to a run are kept.

        The files of a run that stopped before its first entry or state are deleted.

        Args:
            experiment: experiment of the run.
            overwrite: delete the results of an existing run.
            unfinished: delete them if they are of the same experiment and have no state.

        Raises:
            ConfigError: the folder holds a run that may not be deleted, or cannot be written.
        """
        holds_results = self._holds_results()
        if unfinished and holds_results and self.config.exists() and not self.can_resume():
            self.check_same(load_any_experiment(self.config).to_dict(), experiment.to_dict())
            overwrite = True
        if holds_results and not overwrite:
            names = ", ".join(file.name for file in self._existing_files())
            resume = "resume it (--resume last), " if self.state.exists() else ""
            raise ConfigError(
                f"{self.path}: holds a run already ({names}); {resume}overwrite it (--overwrite) or choose another "
                "folder (--out DIR)"
            )
        self._check_inputs(experiment)
        try:
            check_replaceable([self.config] if self.config.exists() else self._existing_files())
            for file in self._existing_files():
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        except OSError as error:
            raise self._not_writable(error) from error
        self.write_config(experiment)

    def _check_inputs(self, experiment: AnyExperiment) -> None:
        """Refuse to delete the initial weights of the new run."""
        existing = {file.resolve() for file in self._existing_files()}
        for key in ("weights", "backbone_weights"):
            file = getattr(experiment.model, key)
            if file is not None and file.resolve() in existing:
                raise ConfigError(
                    f"{file}: has the initial weights of the run (model.{key}) and would be deleted; choose another "
                    "folder (--out DIR)"
                )

    def own_experiment(self, given: AnyExperiment, overrides: Sequence[str]) -> AnyExperiment:
        """Return the experiment to resume: that of ``config.yaml`` with overrides.

        Args:
            given: the user's experiment with overrides; it is returned if the folder has no results yet.
            overrides: texts of the form ``section.key=value``.

        Raises:
            ConfigError: the folder holds a run of another name or task, or an override is wrong.
        """
        if not (self.config.exists() and self._holds_results()):
            return given
        own = load_any_experiment(self.config, overrides)
        if (own.name, own.task) != (given.name, given.task):
            raise ConfigError(
                f"{self.path}: holds the run '{own.name}' ({own.task}), not '{given.name}' ({given.task}); name the "
                "experiment of that run, or choose another folder (--out DIR)"
            )
        return own

    def write_config(self, experiment: AnyExperiment) -> None:
        """Write ``config.yaml``, unless it is already the same.

        Raises:
            ConfigError: the file cannot be written.
        """
        try:
            if self.config.exists() and load_any_experiment(self.config) == experiment:
                return
            with atomic_path(self.config) as partial:
                write_experiment(partial, experiment)
            claim(self.path)
        except OSError as error:
            raise self._not_writable(error) from error

    def _not_writable(self, error: OSError) -> ConfigError:
        return ConfigError(f"{self.path}: cannot be written ({error}); choose another folder with --out DIR")

    def check_present(self) -> None:
        """Raise a :class:`SegmnError` if the folder, or the run in it, was removed during the run."""
        if not self.config.exists():
            raise SegmnError(
                f"{self.path}: was removed or replaced while the run was writing to it, so the run stops and its state "
                "is gone; start it again, and keep the folder until it ends"
            )

    def resume(self) -> State:
        """Return the latest state that is not damaged.

        Raises:
            ConfigError: there is no state.
            WeightsError: no state can be read.
        """
        claim(self.path)
        states = [file for file in (self.state, *self.states()) if file.exists()]
        if not states:
            raise ConfigError(
                f"{self.state}: there is no such file, so there is nothing to resume; start without --resume, or with "
                "--resume auto, which resumes only if there is a state"
            )
        faults = []
        for file in states:
            try:
                return open_state(file)
            except WeightsError as error:
                faults.append(error)
        raise faults[0]

    def can_resume(self) -> bool:
        """Return whether there is a state to resume from."""
        return self.state.exists() or bool(self.states())

    def check_same(self, before: Record, now: Record) -> None:
        """Compare the values on which the results of a run depend.

        Args:
            before: values of the run in the folder, nested or flat.
            now: values of the run to resume.

        Raises:
            ConfigError: values differ that must be equal; the message names their keys.
        """
        changed = [
            f"{key}: {old!r} before, {new!r} now"
            for key, old, new in differences(before, now)
            if key not in FREE_KEYS and not (key in GROWING_KEYS and None not in (old, new) and new >= old)
        ]
        if changed:
            more = [f"and {len(changed) - LISTED} more"] if len(changed) > LISTED else []
            title = f"{self.path}: holds a run of another experiment, which cannot be resumed:"
            raise ConfigError(
                "\n  ".join([title, *changed[:LISTED], *more])
                + "\nresume with the run's own values, or start a new run in another folder (--out DIR)"
            )


def differences(before: Record, now: Record) -> list[tuple[str, Any, Any]]:
    """Return key, old value and new value for each difference of two records; ``None`` stands for a missing key."""
    old, new = _flatten(before), _flatten(now)
    keys = sorted(old.keys() | new.keys())
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


@dataclass(frozen=True)
class State:
    """State from which a run is resumed.

    Attributes:
        file: the file that it was read from.
        step: number of completed optimizer steps.
        record: values that the run's results depend on.
    """

    file: Path
    step: int
    record: Record


def open_state(path: Path) -> State:
    """Read the file of a state without running any code in it.

    Raises:
        WeightsError: the file is damaged, is not a state, or is of an earlier version.
    """
    remedy = f"start a new run from {path.with_name('last.safetensors').name} with -o model.weights=FILE"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        step, record = int(state["global_step"]), dict(state["callbacks"]["Checkpoints"].get("record", {}))
        unrecorded = [key for key in RECORDED if key not in record]
        if not unrecorded:
            mean, std = (tuple(map(float, record["normalization"][key])) for key in ("mean", "std"))
            typed = isinstance(record["sizes"], dict) and isinstance(record["processes"], int)
            if not (len(mean) == len(std) == 3 and typed):
                raise ValueError("its record is damaged")
    except Exception as error:  # torch.load raises errors of many kinds for damaged files
        raise WeightsError(f"{path}: is damaged or not a state of a run ({type(error).__name__}); {remedy}") from error
    if unrecorded:
        raise WeightsError(
            f"{path}: was written by an earlier version of segmnv2, which did not record the run's "
            f"{', '.join(unrecorded)}; resume it with that version, or {remedy}"
        )
    return State(path, step, record)


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
