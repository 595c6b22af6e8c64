"""Schema of an experiment in classification; the defaults, except paths and duration, are the paper's values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from segmnv2.config.experiment import BaseExperiment
from segmnv2.config.network_section import BackboneName, NetworkSection
from segmnv2.config.training_sections import EpochValidationSection, PhotometricSection
from segmnv2.section import FilePath, Natural, NaturalFloat, PositiveFloat, PositiveInt, Section, Share


def _in_order(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError("the first number is the larger one; give the smallest value first")
    return span


Span = Annotated[tuple[PositiveFloat, PositiveFloat], Field(strict=False), AfterValidator(_in_order)]


class ClassifierSection(NetworkSection):
    """The network and what it starts from; see :class:`NetworkSection` for what every task has.

    Attributes:
        name: a backbone's name, as ``mobilenet_v2``.
        norms: ``batch`` takes the statistics of each process's part of a batch; ``synchronized`` those of the whole
            batch, on GPUs.
    """

    name: BackboneName = "mobilenet_v2"
    norms: Literal["batch", "synchronized"] = "batch"

    @property
    def backbone_name(self) -> str:
        """Name of the backbone."""
        return self.name


class ImageFolderSource(Section):
    """Images to classify, in one folder per class, the layout of torchvision's ``ImageFolder``.

    Attributes:
        root: the folder that holds the classes' folders.
    """

    kind: Literal["image_folder"]
    root: FilePath


class ClassificationDataSection(Section):
    """Training and validation data, and the augmentation.

    Attributes:
        train: the training set.
        val: the validation set, of the same classes.
        crop_size: side of the network's input, in pixels.
        area: smallest and largest share of the image's area in a training crop.
        aspect: smallest and largest ratio of a training crop's width to its height, before it is made square.
        flip: chance of a mirror image.
        photometric: changes of color; ``null`` for none.
        central: side of the central crop that validation takes, as a share of the shorter side.
        batch_size: images per step, of all processes together.
        num_workers: reading processes; 0 reads in the training process. Results do not depend on it.
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
    """RMSProp as TensorFlow computes it, and a learning rate that is multiplied by a factor at intervals.

    Attributes:
        lr: learning rate of the first step.
        momentum: momentum of the scaled gradient.
        alpha: share of the old mean square that a step keeps; TensorFlow's ``decay``.
        epsilon: added to the mean square before its root is taken.
        weight_decay: weight decay of the last layer and of all convolutions that are not depthwise.
        rate_factor: factor that multiplies the rate every ``rate_epochs`` epochs.
        rate_epochs: number of epochs between two changes of the rate.
        warmup_epochs: number of first epochs, in which the rate rises linearly to its full value.
        accumulate: number of parts in which a batch is computed, one after another, to save memory.
        clip_norm: largest norm of the gradient; longer ones are shortened to it. ``null`` for no limit.
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
    """An experiment in classification; see :class:`BaseExperiment` for what every task has.

    Attributes:
        task: ``classification``.
        model: the network.
        data: the data sets.
        loss: what is minimized.
        optimizer: the optimizer and its schedule.
        epochs: how often each training image is used, on average.
        validation: when the model is validated.
    """

    task: Literal["classification"]
    model: ClassifierSection = ClassifierSection()
    data: ClassificationDataSection
    loss: ClassificationLossSection = ClassificationLossSection()
    optimizer: RmspropSection = RmspropSection()
    epochs: PositiveFloat
    validation: EpochValidationSection = EpochValidationSection()
