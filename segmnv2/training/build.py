"""Data sets, transforms and networks of an experiment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from segmnv2.config import (
    BoxSource,
    ClassificationExperiment,
    ClassifierSection,
    CocoSource,
    DetectionExperiment,
    DetectorSection,
    Experiment,
    ModelSection,
)
from segmnv2.config.training_sections import PhotometricSection
from segmnv2.data.box_transforms import BoxTransform
from segmnv2.data.image_transforms import CentralTransform, CropTransform
from segmnv2.data.sample import SegmentationDataset
from segmnv2.data.transforms import ColorJitter, TrainTransform
from segmnv2.datasets.coco_boxes import CocoBoxes
from segmnv2.datasets.image_folder import ImageFolder
from segmnv2.datasets.source import DataSource
from segmnv2.detection.detector import Detector, create_detector
from segmnv2.detection.detector_file import load_detector_weights
from segmnv2.errors import ConfigError, DatasetError, WeightsError
from segmnv2.hub.resolve import resolve_weights
from segmnv2.labels import LabelSet
from segmnv2.models.classifier import Classifier, create_classifier
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model, without_pretrained
from segmnv2.nn.network import freeze_batch_norm


def given_weights(named: Path | None, wanted: bool) -> Path | None:
    """Return the file of weights that an experiment names, fetched if it is a name of published ones.

    Args:
        named: the file, a short name, or ``owner/name`` on the Hub.
        wanted: whether it is loaded at all.

    Raises:
        WeightsError: there is no such name, or it can neither be fetched nor is it in the cache.
    """
    return resolve_weights(named) if named is not None and wanted else None


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Add to a message about a file the key of the experiment that names it."""
    try:
        yield
    except (DatasetError, WeightsError) as error:
        raise type(error)(f"{error}\n  (the path is that of the key {key}; -o {key}=PATH changes it)") from error


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


def _color_jitter(section: PhotometricSection | None) -> ColorJitter | None:
    return ColorJitter(**section.model_dump()) if section else None


def build_transform(experiment: Experiment, labels: LabelSet) -> TrainTransform:
    """Return the augmentation of the training images."""
    data = experiment.data
    colors = _color_jitter(data.photometric)
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
        freeze_batch_norm(model, backbone_only=section.weights is None)
    return model


def build_image_folders(experiment: ClassificationExperiment) -> tuple[ImageFolder, ImageFolder]:
    """Open the training set and the validation set of a classification.

    Raises:
        DatasetError: one is not there or not complete.
        ConfigError: they have different classes.
    """
    with naming("data.train.root"):
        train = ImageFolder(experiment.data.train.root)
    with naming("data.val.root"):
        val = ImageFolder(experiment.data.val.root)
    if train.class_names != val.class_names:
        differing = sorted(set(train.class_names) ^ set(val.class_names))
        raise ConfigError(
            f"data.train has {len(train.class_names)} classes, data.val {len(val.class_names)}; {len(differing)} are "
            f"in one of them only ({', '.join(differing[:5])}); give both a folder for each class"
        )
    return train, val


def build_image_transforms(experiment: ClassificationExperiment) -> tuple[CropTransform, CentralTransform]:
    """Return what is done to the training images and to the validation images of a classification."""
    data = experiment.data
    colors = _color_jitter(data.photometric)
    train = CropTransform(data.crop_size, data.area, data.aspect, data.flip, colors)
    return train, CentralTransform(data.crop_size, data.central)


def build_classifier(
    section: ClassifierSection, class_names: Sequence[str], *, initial_weights: bool = True
) -> Classifier:
    """Build the classifier for the classes of a data set, with the weights that the experiment names.

    Args:
        section: the network and its start.
        class_names: of the data set.
        initial_weights: ``False`` leaves the named weights out, for a run whose own checkpoint follows.

    Raises:
        WeightsError: a named file is missing, damaged or does not fit; nothing ever starts from scratch instead.
    """
    options = section.backbone_options
    with naming("model.weights" if section.weights else "model.backbone_weights"):
        model = create_classifier(
            section.name,
            class_names=class_names,
            weights=given_weights(section.weights, initial_weights),
            keep_logits=section.keep_logits,
            backbone_weights=given_weights(section.backbone_weights, initial_weights),
            **(options if initial_weights else without_pretrained(options)),
        )
    if section.norm_momentum is not None:
        model.set_norm_momentum(section.norm_momentum)
    return model


def open_boxes(source: BoxSource, key: str) -> CocoBoxes:
    """Open a data set.

    Args:
        source: which one.
        key: where it stands in the experiment, for messages.

    Raises:
        DatasetError: it is not there or not complete.
    """
    if isinstance(source, CocoSource):
        with naming(f"{key}.root"):
            return CocoBoxes.of_split(source.root, source.split)
    with naming(f"{key}.annotations"):
        return CocoBoxes(source.images, source.annotations)


def build_box_sets(experiment: DetectionExperiment) -> tuple[CocoBoxes, CocoBoxes]:
    """Open the training set, less its images without a box, and the validation set.

    Raises:
        DatasetError: one is not there or not complete, or no training image has a box.
        ConfigError: they have different categories.
    """
    train = open_boxes(experiment.data.train, "data.train")
    val = open_boxes(experiment.data.val, "data.val")
    if train.class_names != val.class_names:
        ours, theirs = train.class_names, val.class_names
        differing = sorted({f"{number} {name}" for number, name in ours.items() ^ theirs.items()})
        raise ConfigError(
            f"data.train has {len(ours)} categories, data.val {len(theirs)}; {', '.join(differing[:5])} are in one of "
            "them only; give both files the same ids and names"
        )
    train.leave_out_empty()
    if not len(train):
        raise DatasetError(f"{train.folder}: no image of data.train has a box; there is nothing to learn")
    return train, val


def build_box_transform(experiment: DetectionExperiment) -> BoxTransform:
    """Return the augmentation of the training images."""
    data = experiment.data
    colors = _color_jitter(data.photometric)
    return BoxTransform(data.flip, iou_crop=data.iou_crop, colors=colors)


def build_detector(
    section: DetectorSection, class_names: Mapping[int, str], *, initial_weights: bool = True
) -> Detector:
    """Build the detector for the categories of a data set, with the weights that the experiment names.

    Args:
        section: the network and its start.
        class_names: category id -> name.
        initial_weights: ``False`` leaves the named weights out, for a run whose own checkpoint follows.

    Raises:
        WeightsError: a named file is missing, damaged or does not fit; nothing ever starts from scratch instead.
    """
    options = section.backbone_options
    with naming("model.weights" if section.weights else "model.backbone_weights"):
        model = create_detector(
            section.detector,
            section.name,
            class_names=class_names,
            size=section.size,
            output_stride=section.output_stride,
            backbone_weights=given_weights(section.backbone_weights, initial_weights),
            backbone_options=options if initial_weights else without_pretrained(options),
            **section.options,
        )
        if section.weights is not None and initial_weights:
            load_detector_weights(model, resolve_weights(section.weights), keep_logits=section.keep_logits)
    if section.norm_momentum is not None:
        model.set_norm_momentum(section.norm_momentum)
    if section.norms == "frozen":
        freeze_batch_norm(model, backbone_only=section.weights is None)
    return model
