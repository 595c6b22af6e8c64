"""An experiment as a YAML file: its schema, how it is read, and what is said when it is wrong."""

from __future__ import annotations

from segmnv2.config.reading import load_experiment, parse_experiment, write_experiment
from segmnv2.config.schema import (
    CocoVocSource,
    DataSource,
    Experiment,
    FolderSource,
    ModelSection,
    OptimizerSection,
    Section,
    ShapesSource,
    VocSource,
)

__all__ = [
    "CocoVocSource",
    "DataSource",
    "Experiment",
    "FolderSource",
    "ModelSection",
    "OptimizerSection",
    "Section",
    "ShapesSource",
    "VocSource",
    "load_experiment",
    "parse_experiment",
    "write_experiment",
]
