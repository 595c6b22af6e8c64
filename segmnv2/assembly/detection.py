"""Data sets, transforms and detector of an experiment in detection."""

from __future__ import annotations

from collections.abc import Mapping

from segmnv2.assembly.naming import given_weights, naming
from segmnv2.config import BoxSource, CocoSource, DetectionExperiment, DetectorSection
from segmnv2.data.box_transforms import BoxTransform
from segmnv2.data.transforms import ColorJitter
from segmnv2.datasets.coco_boxes import CocoBoxes
from segmnv2.detection.detector import Detector, create_detector
from segmnv2.detection.file import load_detector_weights
from segmnv2.errors import ConfigError, DatasetError
from segmnv2.hub.resolve import resolve_weights
from segmnv2.models.zoo import without_pretrained


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
    colors = ColorJitter(**data.photometric.model_dump()) if data.photometric else None
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
        model.freeze_norms(backbone_only=section.weights is None)
    return model
