"""Data sets, transforms and network of an experiment in segmentation."""

from __future__ import annotations

from contextlib import nullcontext

from segmnv2.assembly.naming import given_weights, naming
from segmnv2.config import Experiment, ModelSection
from segmnv2.data.sample import SegmentationDataset
from segmnv2.data.transforms import ColorJitter, TrainTransform
from segmnv2.datasets.base import DataSource
from segmnv2.errors import ConfigError
from segmnv2.labels import LabelSet
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model, without_pretrained


def build_dataset(source: DataSource, key: str = "data") -> SegmentationDataset:
    """Open a data set.

    Args:
        source: which one.
        key: where it stands in the experiment, for messages.

    Raises:
        DatasetError: it is missing or not complete.
    """
    with naming(f"{key}.root") if source.root_is else nullcontext():
        return source.open()


def build_datasets(experiment: Experiment) -> tuple[SegmentationDataset, SegmentationDataset]:
    """Open the training set and the validation set.

    Raises:
        DatasetError: one is not there or not complete.
        ConfigError: they have different classes.
    """
    train = build_dataset(experiment.data.train, "data.train")
    val = build_dataset(experiment.data.val, "data.val")
    if train.labels != val.labels:
        differing = train.labels.differences(val.labels, "data.val", "data.train")
        raise ConfigError(f"the labels of data.train and data.val differ: {differing}; validate on the trained classes")
    return train, val


def build_transform(experiment: Experiment, labels: LabelSet) -> TrainTransform:
    """Return the augmentation of the training images."""
    data = experiment.data
    colors = ColorJitter(**data.photometric.model_dump()) if data.photometric else None
    return TrainTransform(data.crop_size, data.scales, data.flip, labels.ignore_index, colors)


def build_model(section: ModelSection, labels: LabelSet, *, initial_weights: bool = True) -> Segmenter:
    """Build the network for the classes of a data set, with the weights that the experiment names.

    Args:
        section: the network and its start.
        labels: of the data set.
        initial_weights: ``False`` leaves the named weights out, for a run whose own checkpoint follows.

    Raises:
        WeightsError: a named file is missing, damaged or does not fit; nothing ever starts from scratch instead.
    """
    options = section.backbone_options
    with naming("model.weights" if section.weights else "model.backbone_weights"):
        model = create_model(
            section.name,
            output_stride=section.output_stride,
            labels=labels,
            weights=given_weights(section.weights, initial_weights),
            keep_logits=section.keep_logits,
            backbone_weights=given_weights(section.backbone_weights, initial_weights),
            head_options=section.head,
            **(options if initial_weights else without_pretrained(options)),
        )
    if section.norm_momentum is not None:
        model.set_norm_momentum(section.norm_momentum)
    if section.norms == "frozen":
        model.freeze_norms(backbone_only=section.weights is None)
    return model
