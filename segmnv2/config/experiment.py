"""Keys of an experiment that all tasks share.

An experiment is one self-contained YAML file, which is checked as a whole before anything runs. Paths in it are
relative to the current folder, not to the file.
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
        raise ValueError("it becomes a folder: use only letters, digits, '_', '-' and '.', and no '.' first")
    return name


class BaseExperiment(Section):
    """Keys of an experiment that do not depend on its task.

    Attributes:
        name: name of the experiment.
        task: ``segmentation``, ``classification`` or ``detection``.
        seed: seed of weights, order, augmentation and dropout.
        average: moving average of the weights; ``null`` for none.
        checkpoint: interval of the states to resume from.
        precision: 32, or mixed precision with 16-bit floats.
        device: ``auto`` uses a GPU if there is one.
        channels_last: whether tensors have the memory layout channels last, which is faster on CPUs and GPUs.
        compile: whether steps run through ``torch.compile``, which is slower on CPUs.
        log: logs of the run.
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
        """Return plain values for YAML and JSON, including defaults."""
        return self.model_dump(mode="json")
