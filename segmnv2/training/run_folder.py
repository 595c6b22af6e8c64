"""The folder of a run: its files, when a new run may use it, and the state that a run is resumed from."""

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
"""Keys that may differ when a run is resumed: they change neither what is learned nor what is measured.

Paths may, because the images and classes in them are compared. Initial weights are in the state, and so is what came
with them. Files of other sizes, and another number of processes, change the rest of the run and are reported.
"""

GROWING_KEYS = ("steps", "epochs")
"""Keys that may be raised; the learning rate then follows the schedule of the longer run."""

RECORDED = ("processes", "normalization", "frozen_norms", "classes", "images", "sizes")
"""Keys of a record beside the experiment's. States of earlier versions lack some, and a resumed run compares them."""

LISTED = 10
"""Keys that a message names."""

Record = dict[str, Any]
"""All that the result of a step depends on beside the tensors of a state, as plain values by key."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The experiment, defaults filled in."""
        return self.path / "config.yaml"

    @property
    def last(self) -> Path:
        """The network at the latest validation."""
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        """The network at the best validation."""
        return self.path / "best.safetensors"

    @property
    def state(self) -> Path:
        """All that is needed to resume from the latest validation."""
        return self.path / "last.ckpt"

    def state_of(self, step: int) -> Path:
        """File of a step's state, if more than the latest are kept."""
        return self.path / f"step_{step:08d}.ckpt"

    def states(self) -> list[Path]:
        """Return the kept states, the latest first."""
        return sorted(self.path.glob("step_" + 8 * "[0-9]" + ".ckpt"), reverse=True)

    @property
    def metrics(self) -> Path:
        """Losses and validations as a table."""
        return self.path / "metrics.csv"

    @property
    def tensorboard(self) -> Path:
        """Losses and validations for TensorBoard."""
        return self.path / "tensorboard"

    @property
    def wandb_id(self) -> Path:
        """The run's name at Weights & Biases, where a resumed run continues."""
        return self.path / "wandb_id.txt"

    def _present(self) -> list[Path]:
        networks, states = (self.last, self.best), (self.state, *self.states())
        files = (self.config, *networks, *states, self.metrics, self.tensorboard, self.wandb_id)
        return [file for file in files if file.exists()]

    def _holds_results(self) -> bool:
        """Return whether a run has a state, a network or an entry in its table."""
        return self.can_resume() or self.last.exists() or self.best.exists() or bool(read_rows(self.metrics))

    def begin(self, experiment: AnyExperiment, *, overwrite: bool = False, unfinished: bool = False) -> None:
        """Prepare the folder for a new run; files that are not a run's are left alone.

        What a run left that stopped before its first entry or state is deleted.

        Args:
            experiment: experiment of the run.
            overwrite: delete the results of a run that is there.
            unfinished: do so only if it is a run of this experiment that never came to a state.

        Raises:
            ConfigError: it holds a run that may not be deleted, or it cannot be written.
        """
        holds_results = self._holds_results()
        if unfinished and holds_results and self.config.exists() and not self.can_resume():
            self.check_same(load_any_experiment(self.config).to_dict(), experiment.to_dict())
            overwrite = True
        if holds_results and not overwrite:
            found = ", ".join(file.name for file in self._present())
            go_on = "resume it (--resume last), " if self.state.exists() else ""
            raise ConfigError(
                f"{self.path}: holds a run already ({found}); {go_on}write over it (--overwrite) or choose another "
                "folder (--out DIR)"
            )
        self._keep_inputs(experiment)
        try:
            check_replaceable([self.config] if self.config.exists() else self._present())
            for file in self._present():
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        except OSError as error:
            raise self._not_writable(error) from error
        self.write_config(experiment)

    def _keep_inputs(self, experiment: AnyExperiment) -> None:
        """Refuse to delete the weights that the new run starts from."""
        present = {file.resolve() for file in self._present()}
        for key in ("weights", "backbone_weights"):
            file = getattr(experiment.model, key)
            if file is not None and file.resolve() in present:
                raise ConfigError(
                    f"{file}: is what the run starts from (model.{key}) and would be deleted; choose another folder "
                    "(--out DIR)"
                )

    def own_experiment(self, given: AnyExperiment, overrides: Sequence[str]) -> AnyExperiment:
        """Return the experiment to resume: that of ``config.yaml`` with overrides on top.

        Args:
            given: the experiment that the user names, overrides included. It is returned where no run has results yet.
            overrides: each ``section.key=value``.

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
        """Write ``config.yaml``, unless it says the same already.

        Raises:
            ConfigError: it cannot be written.
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
        """Make sure that the folder of a run was not removed during the run.

        Raises:
            SegmnError: the folder, or the run in it, is gone.
        """
        if not self.config.exists():
            raise SegmnError(
                f"{self.path}: was removed or replaced while the run was writing to it, so the run stops and its state "
                "is gone; start it again, and keep the folder until it ends"
            )

    def resume(self) -> State:
        """Return the state to resume from: the latest, or if it is damaged the latest sound one.

        Raises:
            ConfigError: there is none.
            WeightsError: no state can be read.
        """
        claim(self.path)
        found = [file for file in (self.state, *self.states()) if file.exists()]
        if not found:
            raise ConfigError(
                f"{self.state}: there is no such file, so nothing to resume; start without --resume, or with "
                "--resume auto, which resumes where it can"
            )
        faults = []
        for file in found:
            try:
                return open_state(file)
            except WeightsError as error:
                faults.append(error)
        raise faults[0]

    def can_resume(self) -> bool:
        """Whether there is a state to resume from."""
        return self.state.exists() or bool(self.states())

    def check_same(self, before: Record, now: Record) -> None:
        """Compare what the results of a run depend on.

        Args:
            before: values of the run in the folder, nested or flat.
            now: values of the run to resume.

        Raises:
            ConfigError: something differs that may not; each such key is named.
        """
        changed = [
            f"{key}: {old!r} before, {new!r} now"
            for key, old, new in differences(before, now)
            if not _may_become(key, old, new)
        ]
        if changed:
            more = [f"and {len(changed) - LISTED} more"] if len(changed) > LISTED else []
            title = f"{self.path}: holds a run of another experiment, which cannot be resumed:"
            raise ConfigError(
                "\n  ".join([title, *changed[:LISTED], *more])
                + "\nresume with the run's own values, or start a new run in another folder (--out DIR)"
            )


def differences(before: Record, now: Record) -> list[tuple[str, Any, Any]]:
    """Return key, value before and value now wherever two records differ; ``None`` stands for a missing key."""
    old, new = _flatten(before), _flatten(now)
    keys = sorted(old.keys() | new.keys())
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def _may_become(key: str, old: Any, new: Any) -> bool:
    if key in GROWING_KEYS and old is not None and new is not None:
        return bool(new >= old)
    return key in FREE_KEYS


@dataclass(frozen=True)
class State:
    """State from which a run is resumed.

    Attributes:
        file: the file that it was read from.
        step: optimizer steps done.
        record: everything that the run's results depend on.
    """

    file: Path
    step: int
    record: Record


def open_state(path: Path) -> State:
    """Read a trainer's state as a whole, without running any code in it.

    Raises:
        WeightsError: it is damaged, no trainer's state, or of an earlier version.
    """
    remedy = f"start a new run from {path.with_name('last.safetensors').name} with -o model.weights=FILE"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        step, record = int(state["global_step"]), dict(state["callbacks"]["Checkpoints"].get("record", {}))
        unrecorded = [key for key in RECORDED if key not in record]
        if not unrecorded:
            mean, std = (tuple(map(float, record["normalization"][key])) for key in ("mean", "std"))
            whole = isinstance(record["sizes"], dict) and isinstance(record["processes"], int)
            if not (len(mean) == len(std) == 3 and whole):
                raise ValueError("its record is damaged")
    except Exception as error:  # torch.load raises half a dozen unrelated classes on damaged files
        raise WeightsError(f"{path}: is damaged or no trainer's state ({type(error).__name__}); {remedy}") from error
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
