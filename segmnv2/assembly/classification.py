"""Data sets, transforms and network of an experiment in classification."""

from __future__ import annotations

from collections.abc import Sequence

from segmnv2.assembly.naming import given_weights, naming
from segmnv2.config import ClassificationExperiment, ClassifierSection
from segmnv2.data.image_transforms import CentralTransform, CropTransform
from segmnv2.data.transforms import ColorJitter
from segmnv2.datasets.image_folder import ImageFolder
from segmnv2.errors import ConfigError
from segmnv2.models.classifier import Classifier, create_classifier
from segmnv2.models.zoo import without_pretrained


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
    colors = ColorJitter(**data.photometric.model_dump()) if data.photometric else None
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
