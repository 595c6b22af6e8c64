"""The folder of a run: what is in it, when a new run may use it, and what a run goes on from."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segmnv2.atomic import atomic_path
from segmnv2.config import AnyExperiment, load_any_experiment, write_experiment
from segmnv2.errors import ConfigError, WeightsError

FREE_KEYS = (
    "name",
    "output",
    "device",
    "channels_last",
    "log.every",
    "log.pictures",
    "log.wandb",
    "checkpoint.every",
    "checkpoint.keep",
    "model.weights",
    "model.backbone_weights",
    "model.keep_logits",
    "data.num_workers",
    "data.train.root",
    "data.val.root",
    "validation.every",
)
"""Keys that may differ when a run is resumed: they change neither what is learnt nor what is measured."""


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
        """All that is needed to go on from the latest validation."""
        return self.path / "last.ckpt"

    def state_of(self, step: int) -> Path:
        """Where the state of a step is kept, if more than the latest are."""
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
        """The run's name at Weights & Biases, where a resumed run goes on."""
        return self.path / "wandb_id.txt"

    def _present(self) -> list[Path]:
        networks, states = (self.last, self.best), (self.state, *self.states())
        files = (self.config, *networks, *states, self.metrics, self.tensorboard, self.wandb_id)
        return [file for file in files if file.exists()]

    def begin(self, experiment: AnyExperiment, *, overwrite: bool = False, unfinished: bool = False) -> None:
        """Make the folder ready for a new run; files that are not a run's are left alone.

        Args:
            experiment: of the run.
            overwrite: delete the files of a run that is there.
            unfinished: do so only if it is a run of this experiment that never came to a state.

        Raises:
            ConfigError: it holds a run that may not be deleted, or it cannot be written.
        """
        if unfinished and self.config.exists() and not self.can_resume():
            self._check_same(experiment)
            overwrite = True
        if self._present() and not overwrite:
            found = ", ".join(file.name for file in self._present())
            go_on = "go on with it (--resume last), " if self.state.exists() else ""
            raise ConfigError(
                f"{self.path}: holds a run already ({found}); {go_on}write over it (--overwrite) or choose another "
                "folder (--out DIR)"
            )
        try:
            for file in self._present():
                shutil.rmtree(file) if file.is_dir() else file.unlink()
            self.path.mkdir(parents=True, exist_ok=True)
            with atomic_path(self.config) as partial:
                write_experiment(partial, experiment)
        except OSError as error:
            raise ConfigError(
                f"{self.path}: cannot be written ({error}); choose another folder with --out DIR"
            ) from error

    def resume(self, experiment: AnyExperiment) -> State:
        """Return the state from which the run goes on: the latest, or if it is damaged the latest sound one.

        Raises:
            ConfigError: there is nothing to go on from, or the experiment is not that of the run.
            WeightsError: no state can be read.
        """
        found = [file for file in (self.state, *self.states()) if file.exists()]
        if not found:
            raise ConfigError(
                f"{self.state}: there is no such file, so nothing to resume; start without --resume, or with "
                "--resume auto, which goes on where it can"
            )
        if self.config.exists():
            self._check_same(experiment)
        faults = []
        for file in found:
            try:
                return State(file, read_state(file))
            except WeightsError as error:
                faults.append(error)
        raise faults[0]

    def can_resume(self) -> bool:
        """Whether there is a state to go on from."""
        return self.state.exists() or bool(self.states())

    def _check_same(self, experiment: AnyExperiment) -> None:
        before, now = _flatten(load_any_experiment(self.config).to_dict()), _flatten(experiment.to_dict())
        changed = [
            f"{key}: {before.get(key)!r} before, {now.get(key)!r} now"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and key not in FREE_KEYS
        ]
        if changed:
            raise ConfigError(
                "\n  ".join([f"{self.path}: holds a run of another experiment, which cannot be resumed:", *changed])
                + "\nresume with the run's own values, or start a new run in another folder (--out DIR)"
            )


@dataclass(frozen=True)
class State:
    """What a run goes on from.

    Attributes:
        file: where it was read.
        step: optimizer steps done.
    """

    file: Path
    step: int


def read_state(path: Path) -> int:
    """Read a trainer's state as a whole, without running any code in it, and return its step.

    Raises:
        WeightsError: it is damaged or no trainer's state.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return int(state["global_step"])
    except Exception as error:  # torch.load raises half a dozen unrelated classes on damaged files
        raise WeightsError(
            f"{path}: is damaged or no trainer's state ({type(error).__name__}); "
            f"start anew from {path.with_name('last.safetensors').name} with -o model.weights=FILE"
        ) from error


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
