"""What an experiment is: one self-contained YAML file, checked as a whole before anything runs.

Paths in a file are relative to the current working directory, not to the file, so that a command means the same
whichever file it names. Everything else has the paper's value by default.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

PositiveInt = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
PositiveFloat = Annotated[float, Field(gt=0)]
OutputStride = Literal[8, 16, 32]
# Strict checking would ask for a Path or a tuple, which YAML cannot write.
FilePath = Annotated[Path, Field(strict=False)]
Scales = Annotated[tuple[PositiveFloat, ...], Field(strict=False, min_length=1)]


def _known_model(name: str) -> str:
    from segmnv2.models.catalogue import list_models

    if name not in list_models():
        raise ValueError(f"available are {', '.join(list_models())}")
    return name


def _file_name(name: str) -> str:
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise ValueError("it names a folder: use letters, digits, '_', '-' and '.' only, the first no dot")
    return name


class Section(BaseModel):
    """A part of an experiment: immutable, no unknown keys, no silent conversions such as ``"16"`` to 16."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class VocSource(Section):
    """PASCAL VOC 2012, or data of one's own in its layout.

    Attributes:
        root: folder ``VOCdevkit``, or ``VOC2012`` itself.
        split: a list in ``ImageSets/Segmentation``.
        labels: YAML file with the names of the classes, background first; ``null`` for VOC's 21.
    """

    kind: Literal["voc"]
    root: FilePath
    split: str
    labels: FilePath | None = None


class CocoVocSource(Section):
    """COCO with masks of VOC's 21 classes, the paper's pre-training.

    Attributes:
        root: folder with ``annotations/`` and the images' folders.
        split: ``train2017`` or ``val2017``.
        min_pixels: pixels of VOC's classes that an image must exceed to be taken; 0 takes all.
    """

    kind: Literal["coco_voc"]
    root: FilePath
    split: str = "train2017"
    min_pixels: Natural = 1000


class ShapesSource(Section):
    """Generated pictures of shapes.

    Attributes:
        length: number of pictures.
        size: height and width in pixels.
        seed: which pictures; training and validation take different ones.
    """

    kind: Literal["shapes"]
    length: PositiveInt
    size: Annotated[int, Field(ge=16)] = 161
    seed: Seed = 0


class FolderSource(Section):
    """A data set of one's own: ``images/``, ``masks/`` and ``labels.yaml``.

    Attributes:
        root: the folder that holds them.
        split: a list ``splits/NAME.txt``; ``null`` for all images.
    """

    kind: Literal["folder"]
    root: FilePath
    split: str | None = None


DataSource = Annotated[VocSource | FolderSource | CocoVocSource | ShapesSource, Field(discriminator="kind")]


class ModelSection(Section):
    """The network and what it starts from.

    Attributes:
        name: one of ``segmnv2.list_models()``.
        output_stride: in training; 8 is finer and dearer.
        width: multiplier of the backbone's channels.
        channel_divisor: what channels are rounded to a multiple of.
        weights: file of a whole network to start from.
        keep_logits: with ``weights``, whether its last layer is taken too; ``false`` for other classes.
        backbone_weights: file of which the backbone is taken, as the ImageNet one.
        norm_momentum: share of a new batch in the running statistics of every batch norm; ``null`` for the paper's.
    """

    name: Annotated[str, AfterValidator(_known_model)] = "deeplabv3_mobilenet_v2"
    output_stride: OutputStride = 16
    width: Annotated[float, Field(ge=0.05, le=4)] = 1.0
    channel_divisor: PositiveInt = 8
    weights: FilePath | None = None
    keep_logits: bool = True
    backbone_weights: FilePath | None = None
    norm_momentum: Annotated[float, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _one_start(self) -> ModelSection:
        if self.weights is not None and self.backbone_weights is not None:
            raise ValueError("weights and backbone_weights are both given; name one file and set the other to null")
        return self


class DataSection(Section):
    """What is trained and validated on, and the augmentation.

    Attributes:
        train: the training set.
        val: the validation set, of the same classes.
        crop_size: side of the training crops, in pixels.
        scales: factors, one of which each training image is resized by.
        flip: chance of a mirror image.
        batch_size: crops a step, of all processes together.
        num_workers: reading processes; 0 reads in the training process. It changes no result.
    """

    train: DataSource
    val: DataSource
    crop_size: Annotated[int, Field(ge=17)] = 513
    scales: Scales = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    batch_size: PositiveInt = 16
    num_workers: Natural = 2


class OptimizerSection(Section):
    """Stochastic gradient descent with momentum and a rate that falls as ``lr * (1 - step / steps) ** power``.

    Attributes:
        lr: learning rate of the first step; the last layer's bias has twice that.
        momentum: of the gradient.
        weight_decay: on the kernels of convolutions that are not depthwise.
        power: of the schedule; 0 keeps the rate.
    """

    lr: PositiveFloat = 0.007
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 4e-5
    power: Annotated[float, Field(ge=0)] = 0.9


class ValidationSection(Section):
    """When and how the network is validated; always after the last step too.

    Attributes:
        every: steps between two validations, after each of which a checkpoint is written.
        limit: number of images, the first ones; ``null`` for all.
        size: side of the canvas that images are laid on, or ``native``, as ``segmnv2 evaluate`` has it.
        output_stride: in validation; ``null`` for the one in training.
    """

    every: PositiveInt = 1000
    limit: PositiveInt | None = None
    size: Annotated[int, Field(ge=17)] | Literal["native"] = 513
    output_stride: OutputStride | None = None


class Experiment(Section):
    """A whole experiment.

    Attributes:
        name: what it is called.
        seed: of weights, order, augmentation and dropout.
        model: the network.
        data: the data sets.
        optimizer: the optimizer and its schedule.
        steps: optimizer steps in all.
        validation: when and how it is validated.
        precision: 32, or mixed with 16-bit floats.
        device: ``auto`` takes a GPU where there is one.
        channels_last: memory layout; faster on CPUs and GPUs alike.
        log_every: steps between two entries of the logs.
        output: folder of the results; ``null`` for ``runs/NAME``.
    """

    name: Annotated[str, AfterValidator(_file_name)]
    seed: Seed = 0
    model: ModelSection = ModelSection()
    data: DataSection
    optimizer: OptimizerSection = OptimizerSection()
    steps: PositiveInt
    validation: ValidationSection = ValidationSection()
    precision: Literal[32, "bf16-mixed", "16-mixed"] = 32
    device: Literal["auto", "cpu", "cuda"] = "auto"
    channels_last: bool = True
    log_every: PositiveInt = 50
    output: FilePath | None = None

    @property
    def output_folder(self) -> Path:
        """Where results go."""
        return self.output or Path("runs", self.name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, defaults filled in, as YAML and JSON can write them."""
        return self.model_dump(mode="json")
