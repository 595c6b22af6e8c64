"""What an experiment is: one self-contained YAML file, checked as a whole before anything runs.

Paths in a file are relative to the current working directory, not to the file, so that a command means the same
whichever file it names. Everything else has the paper's value by default.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from segmnv2.config.section import (
    FilePath,
    Natural,
    OutputStride,
    PositiveInt,
    Scales,
    Section,
    Seed,
    Share,
)
from segmnv2.config.sources import DataSource
from segmnv2.config.training import (
    AverageSection,
    CheckpointSection,
    LogSection,
    LossSection,
    OptimizerSection,
    PhotometricSection,
)


def _known_model(name: str) -> str:
    from segmnv2.models.catalogue import list_models

    if name not in list_models():
        raise ValueError(f"available are {', '.join(list_models())}")
    return name


def _file_name(name: str) -> str:
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise ValueError("it names a folder: use letters, digits, '_', '-' and '.' only, the first no dot")
    return name


class ModelSection(Section):
    """The network and what it starts from.

    Attributes:
        name: one of ``segmnv2.list_models()``.
        output_stride: in training; 8 is finer and dearer.
        width: multiplier of the backbone's channels, for backbones that have widths; ``null`` for its own, 1.0.
        channel_divisor: what channels are rounded to a multiple of, for MobileNetV2; ``null`` for 8.
        backbone: further arguments of the backbone, as ``{model: resnet50}`` for ``deeplabv3_timm``.
        weights: file of a whole network to start from.
        keep_logits: with ``weights``, whether its last layer is taken too; ``false`` for other classes.
        backbone_weights: file of which the backbone is taken, as the ImageNet one.
        norms: ``batch`` normalises by the statistics of a process's part of a batch; ``synchronized`` by those of the
            whole batch, on GPUs; ``frozen`` by the statistics that the weights came with, for batches below about 12;
            the head's learn on where only the backbone came with weights.
        norm_momentum: share of a new batch in the running statistics of every batch norm; ``null`` for the paper's.
    """

    name: Annotated[str, AfterValidator(_known_model)] = "deeplabv3_mobilenet_v2"
    output_stride: OutputStride = 16
    width: Annotated[float, Field(ge=0.05, le=4)] | None = None
    channel_divisor: PositiveInt | None = None
    backbone: dict[str, Any] = Field(default_factory=dict)
    weights: FilePath | None = None
    keep_logits: bool = True
    backbone_weights: FilePath | None = None
    norms: Literal["batch", "synchronized", "frozen"] = "batch"
    norm_momentum: Annotated[float, Field(gt=0, le=1)] | None = None

    @property
    def backbone_options(self) -> dict[str, Any]:
        """All arguments of the backbone that are given."""
        short = {"width": self.width, "channel_divisor": self.channel_divisor}
        return {**{key: value for key, value in short.items() if value is not None}, **self.backbone}

    @model_validator(mode="after")
    def _options_exist(self) -> ModelSection:
        from segmnv2.backbones.registry import backbone_options, missing_options
        from segmnv2.models.catalogue import MODELS

        allowed = backbone_options(MODELS[self.name].backbone)
        unknown = [key for key in self.backbone_options if key not in allowed]
        if unknown:
            raise ValueError(
                f"the backbone of {self.name} has no option {', '.join(unknown)}; it has {', '.join(allowed)}"
            )
        missing = missing_options(MODELS[self.name].backbone, self.backbone_options)
        if missing:
            raise ValueError(f"the backbone of {self.name} needs {', '.join(missing)}; give it in model.backbone")
        return self

    @model_validator(mode="after")
    def _frozen_norms(self) -> ModelSection:
        if self.norms == "frozen" and self.norm_momentum is not None:
            raise ValueError("norms 'frozen' leaves the running statistics alone; set norm_momentum to null")
        if self.norms == "frozen" and self.weights is None and self.backbone_weights is None:
            raise ValueError(
                "norms 'frozen' normalises by statistics that weights come with, and there are none; "
                "name a file as weights or backbone_weights, or set norms to 'batch'"
            )
        return self

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
        photometric: changes of colour; ``null`` for none, as in the paper.
        batch_size: crops a step, of all processes together.
        num_workers: reading processes; 0 reads in the training process. It changes no result.
    """

    train: DataSource
    val: DataSource
    crop_size: Annotated[int, Field(ge=17)] = 513
    scales: Scales = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
    flip: Share = 0.5
    photometric: PhotometricSection | None = None
    batch_size: PositiveInt = 16
    num_workers: Natural = 2


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
        loss: what is minimised.
        optimizer: the optimizer and its schedule.
        average: moving average of the weights; ``null`` for none.
        steps: optimizer steps in all.
        validation: when and how it is validated.
        checkpoint: when states to go on from are written.
        precision: 32, or mixed with 16-bit floats.
        device: ``auto`` takes a GPU where there is one.
        channels_last: memory layout; faster on CPUs and GPUs alike.
        compile: whether steps run through ``torch.compile``; on CPUs it is slower.
        log: what is written down on the way.
        output: folder of the results; ``null`` for ``runs/NAME``.
    """

    name: Annotated[str, AfterValidator(_file_name)]
    seed: Seed = 0
    model: ModelSection = ModelSection()
    data: DataSection
    loss: LossSection = LossSection()
    optimizer: OptimizerSection = OptimizerSection()
    average: AverageSection | None = None
    steps: PositiveInt
    validation: ValidationSection = ValidationSection()
    checkpoint: CheckpointSection = CheckpointSection()
    precision: Literal[32, "bf16-mixed", "16-mixed"] = 32
    device: Literal["auto", "cpu", "cuda"] = "auto"
    channels_last: bool = True
    compile: bool = False
    log: LogSection = LogSection()
    output: FilePath | None = None

    @property
    def output_folder(self) -> Path:
        """Where results go."""
        return self.output or Path("runs", self.name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, defaults filled in, as YAML and JSON can write them."""
        return self.model_dump(mode="json")
