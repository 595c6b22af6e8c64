"""Parts of an experiment that all tasks share.

An experiment is one self-contained YAML file, checked as a whole before anything runs. Paths in a file are relative to
the current working directory, not to the file, so that a command means the same whichever file it names.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from segmnv2.config.training_sections import AverageSection, CheckpointSection, LogSection
from segmnv2.section import FilePath, Section, Seed


def _file_name(name: str) -> str:
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise ValueError("it names a folder: use letters, digits, '_', '-' and '.' only, the first no dot")
    return name


class BaseExperiment(Section):
    """A whole experiment, less what depends on its task.

    Attributes:
        name: name of the experiment.
        task: ``segmentation``, ``classification`` or ``detection``.
        seed: seed of weights, order, augmentation and dropout.
        average: moving average of the weights; ``null`` for none.
        checkpoint: when states to resume from are written.
        precision: 32, or mixed with 16-bit floats.
        device: ``auto`` takes a GPU where there is one.
        channels_last: memory layout; faster on CPUs and GPUs alike.
        compile: whether steps run through ``torch.compile``; on CPUs it is slower.
        log: what is logged during the run.
        output: folder of the results; ``null`` for ``runs/NAME``.
    """

    name: Annotated[str, AfterValidator(_file_name)]
    task: str
    seed: Seed = 0
    average: AverageSection | None = None
    checkpoint: CheckpointSection = CheckpointSection()
    precision: Literal[32, "bf16-mixed", "16-mixed"] = 32
    device: Literal["auto", "cpu", "cuda"] = "auto"
    channels_last: bool = True
    compile: bool = False
    log: LogSection = LogSection()
    output: FilePath | None = None

    @property
    def output_folder(self) -> Path:
        """Folder of the results."""
        return self.output or Path("runs", self.name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, defaults filled in, as YAML and JSON can write them."""
        return self.model_dump(mode="json")
