"""The folder of a run: what is in it, and when a new run may use it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segmnv2.atomic import atomic_path
from segmnv2.config import Experiment, load_experiment, write_experiment
from segmnv2.errors import ConfigError, WeightsError

FREE_KEYS = (
    "name",
    "output",
    "device",
    "channels_last",
    "log_every",
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

    @property
    def metrics(self) -> Path:
        """Losses and validations as a table."""
        return self.path / "metrics.csv"

    @property
    def tensorboard(self) -> Path:
        """Losses and validations for TensorBoard."""
        return self.path / "tensorboard"

    def _present(self) -> list[Path]:
        files = (self.config, self.last, self.best, self.state, self.metrics, self.tensorboard)
        return [file for file in files if file.exists()]

    def begin(self, experiment: Experiment, *, overwrite: bool) -> None:
        """Make the folder ready for a new run; files that are not a run's are left alone.

        Raises:
            ConfigError: it holds a run and ``overwrite`` is not given, or it cannot be written.
        """
        if self._present() and not overwrite:
            found = ", ".join(file.name for file in self._present())
            go_on = "go on with it (--resume), " if self.state.exists() else ""
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

    def resume(self, experiment: Experiment) -> dict[str, Any]:
        """Return the trainer's state from which the run goes on.

        Raises:
            ConfigError: there is nothing to go on from, or the experiment is not that of the run.
            WeightsError: the state cannot be read.
        """
        if not self.state.exists():
            raise ConfigError(f"{self.state}: there is no such file, so nothing to resume; start without --resume")
        if self.config.exists():
            self._check_same(experiment)
        return read_state(self.state)

    def _check_same(self, experiment: Experiment) -> None:
        before, now = _flatten(load_experiment(self.config).to_dict()), _flatten(experiment.to_dict())
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


def read_state(path: Path) -> dict[str, Any]:
    """Read a trainer's state without running any code in it.

    Raises:
        WeightsError: it is damaged or no trainer's state.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {**state, "global_step": int(state["global_step"])}
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
