"""Measures at Weights & Biases, on request."""

from __future__ import annotations

import uuid

from lightning.pytorch.loggers import WandbLogger

from segmnv2.config import AnyExperiment
from segmnv2.errors import ConfigError
from segmnv2.files.atomic import atomic_path
from segmnv2.training.run_folder import RunFolder


def build_wandb_log(experiment: AnyExperiment, folder: RunFolder) -> WandbLogger:
    """Return the log; a resumed run continues its own.

    Args:
        experiment: its ``log.wandb`` names the project.
        folder: of the run.

    Raises:
        ConfigError: the package is not installed.
    """
    if not folder.wandb_id.exists():
        with atomic_path(folder.wandb_id) as partial:
            partial.write_text(uuid.uuid4().hex[:12], encoding="utf-8")
    try:
        return WandbLogger(
            name=experiment.name,
            project=experiment.log.wandb,
            save_dir=folder.path,
            id=folder.wandb_id.read_text(encoding="utf-8").strip(),
            resume="allow",
        )
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"log.wandb: {experiment.log.wandb!r} needs the package wandb, which is not installed; "
            "`pip install wandb`, or -o log.wandb=null"
        ) from error
