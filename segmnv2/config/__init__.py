"""An experiment as a YAML file: its schema, how it is read, and what is said when it is wrong."""

from __future__ import annotations

from segmnv2.config.classification_schema import (
    ClassificationExperiment,
    ClassifierSection,
    ImageFolderSource,
    RmspropSection,
)
from segmnv2.config.detection_schema import (
    BoxSource,
    CocoFileSource,
    CocoSource,
    DetectionExperiment,
    DetectionOptimizerSection,
    DetectorSection,
)
from segmnv2.config.reading import (
    AnyExperiment,
    load_any_experiment,
    load_experiment,
    parse_any_experiment,
    parse_experiment,
    write_experiment,
)
from segmnv2.config.segmentation_schema import Experiment, ModelSection
from segmnv2.config.training_sections import LossSection, OptimizerSection
from segmnv2.section import Section

__all__ = [
    "AnyExperiment",
    "BoxSource",
    "ClassificationExperiment",
    "ClassifierSection",
    "CocoFileSource",
    "CocoSource",
    "DetectionExperiment",
    "DetectionOptimizerSection",
    "DetectorSection",
    "Experiment",
    "ImageFolderSource",
    "LossSection",
    "ModelSection",
    "OptimizerSection",
    "RmspropSection",
    "Section",
    "load_any_experiment",
    "load_experiment",
    "parse_any_experiment",
    "parse_experiment",
    "write_experiment",
]
