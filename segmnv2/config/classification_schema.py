"""Schema of an experiment in classification. The defaults are the paper's values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from segmnv2.config.experiment import BaseExperiment
from segmnv2.config.network_section import BackboneName, NetworkSection
from segmnv2.config.training_sections import EpochValidationSection, PhotometricSection
from segmnv2.section import FilePath, Natural, NaturalFloat, PositiveFloat, PositiveInt, Section, Share


def _in_order(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError("the first number is larger than the second; give the smaller one first")
    return span


Span = Annotated[tuple[PositiveFloat, PositiveFloat], Field(strict=False), AfterValidator(_in_order)]


class ClassifierSection(NetworkSection):
    """The model and its initial weights; see :class:`NetworkSection` for the keys of all tasks.

    Attributes:
        name: name of a backbone, such as ``mobilenet_v2``.
        norms: ``batch`` normalizes by the statistics of each process's part of a batch. ``synchronized`` uses those of
            the whole batch, on GPUs.
    """

    name: BackboneName = "mobilenet_v2"
    norms: Literal["batch", "synchronized"] = "batch"


class ImageFolderSource(Section):
    """Images in one folder per class, the layout of torchvision's ``ImageFolder``.

    Attributes:
        root: folder that holds the folders of the classes.
    """

    kind: Literal["image_folder"]
    root: FilePath


class ClassificationDataSection(Section):
    """Training and validation data, and the augmentation.

    Attributes:
        train: the training set.
        val: the validation set, with the same classes.
        crop_size: side of the model's input, in pixels.
        area: smallest and largest area of a training crop, as a share of the image's area.
        aspect: smallest and largest ratio of a training crop's width to its height, before it is resized to a square.
        flip: probability of a mirror image.
        photometric: color augmentation; ``null`` for none.
        central: side of the central crop in validation, as a share of the shorter side.
        batch_size: images per step, in all processes together.
        num_workers: worker processes; 0 reads in the training process. Results do not depend on it.
    """

    train: ImageFolderSource
    val: ImageFolderSource
    crop_size: Annotated[int, Field(ge=32)] = 224
    area: Span = (0.05, 1.0)
    aspect: Span = (0.75, 1.33)
    flip: Share = 0.5
    photometric: PhotometricSection | None = None
    central: Annotated[float, Field(gt=0, le=1)] = 0.875
    batch_size: PositiveInt = 96
    num_workers: Natural = 2


class ClassificationLossSection(Section):
    """Cross-entropy.

    Attributes:
        label_smoothing: share of the target that is distributed over all classes.
    """

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1


class RmspropSection(Section):
    """RMSProp as in TensorFlow, with a learning rate that decays at intervals.

    Attributes:
        lr: learning rate of the first step.
        momentum: momentum of the scaled gradient.
        alpha: share of the old mean square that a step keeps; TensorFlow's ``decay``.
        epsilon: number that is added to the mean square before the square root.
        weight_decay: weight decay of the last layer and of all convolutions that are not depthwise.
        rate_factor: factor that multiplies the learning rate every ``rate_epochs`` epochs.
        rate_epochs: epochs between two changes of the learning rate.
        warmup_epochs: epochs at the start in which the learning rate rises linearly to its full value.
        accumulate: parts in which a batch is computed, one after another, to save memory.
        clip_norm: largest norm of the gradient; a larger gradient is scaled down to it. ``null`` for no limit.
    """

    lr: PositiveFloat = 0.045
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    alpha: Annotated[float, Field(ge=0, lt=1)] = 0.9
    epsilon: PositiveFloat = 1.0
    weight_decay: NaturalFloat = 4e-5
    rate_factor: Annotated[float, Field(gt=0, le=1)] = 0.98
    rate_epochs: PositiveFloat = 1.0
    warmup_epochs: NaturalFloat = 0.0
    accumulate: PositiveInt = 1
    clip_norm: PositiveFloat | None = None


class ClassificationExperiment(BaseExperiment):
    """An experiment in classification; see :class:`BaseExperiment` for the keys of all tasks.

    Attributes:
        task: ``classification``.
        model: the model.
        data: the data sets.
        loss: the loss.
        optimizer: the optimizer and its schedule.
        epochs: number of passes over the training set.
        validation: interval and size of validation.
    """

    task: Literal["classification"]
    model: ClassifierSection = ClassifierSection()
    data: ClassificationDataSection
    loss: ClassificationLossSection = ClassificationLossSection()
    optimizer: RmspropSection = RmspropSection()
    epochs: PositiveFloat
    validation: EpochValidationSection = EpochValidationSection()
