"""Schema of an experiment in segmentation. The defaults are the paper's values."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from segmnv2.config.experiment import BaseExperiment
from segmnv2.config.network_section import FreezableSection
from segmnv2.config.training_sections import LossSection, OptimizerSection, PhotometricSection, PictureLogSection
from segmnv2.datasets.dataset_kinds import DATASETS, DataSource
from segmnv2.errors import ConfigError
from segmnv2.section import Natural, OutputStride, PositiveInt, Scales, Section, Share

if TYPE_CHECKING:
    AnySource = DataSource
else:
    AnySource = Annotated[reduce(or_, DATASETS.values()), Field(discriminator="kind")]


def _known_model(name: str) -> str:
    from segmnv2.models.segmenter import list_models

    if name not in list_models():
        raise ValueError(f"available are {', '.join(list_models())}")
    return name


class ModelSection(FreezableSection):
    """The model and its initial weights; see :class:`FreezableSection` for the other keys.

    Attributes:
        name: one of ``segmnv2.list_models()``.
        output_stride: output stride in training; 8 is finer and slower.
        head: options of the head, such as ``{separable: true}`` for DeepLabv3+.
    """

    name: Annotated[str, AfterValidator(_known_model)] = "deeplabv3_mobilenet_v2"
    output_stride: OutputStride = 16
    head: dict[str, Any] = Field(default_factory=dict)

    @property
    def backbone_name(self) -> str:
        """Name of the backbone."""
        from segmnv2.models.segmenter import MODELS

        return MODELS[self.name].backbone

    @model_validator(mode="after")
    def _head_options_exist(self) -> ModelSection:
        from segmnv2.heads.head import check_head_options
        from segmnv2.models.segmenter import MODELS

        try:
            check_head_options(MODELS[self.name].head, self.head)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self


class DataSection(Section):
    """Training and validation data, and the augmentation.

    Attributes:
        train: the training set.
        val: the validation set, with the same classes.
        crop_size: side of the training crops, in pixels.
        scales: factors from which the scale of each training image is drawn.
        flip: probability of a mirror image.
        photometric: color augmentation; ``null`` for none, as in the paper.
        batch_size: crops per step, in all processes together.
        num_workers: worker processes; 0 reads in the training process. Results do not depend on it.
    """

    train: AnySource
    val: AnySource
    crop_size: Annotated[int, Field(ge=17)] = 513
    scales: Scales = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
    flip: Share = 0.5
    photometric: PhotometricSection | None = None
    batch_size: PositiveInt = 16
    num_workers: Natural = 2


class ValidationSection(Section):
    """Interval and options of validation, which always includes the last step.

    Attributes:
        every: steps between two validations; a checkpoint is written after each validation.
        limit: number of images, evenly distributed over the validation set; ``null`` for all.
        size: longest side of the model's input in pixels, or ``native``, as in ``segmnv2 evaluate``.
        output_stride: output stride in validation; ``null`` for the one in training.
    """

    every: PositiveInt = 1000
    limit: PositiveInt | None = None
    size: Annotated[int, Field(ge=17)] | Literal["native"] = 513
    output_stride: OutputStride | None = None


class Experiment(BaseExperiment):
    """An experiment in segmentation; see :class:`BaseExperiment` for the keys of all tasks.

    Attributes:
        task: ``segmentation``, the default.
        model: the model.
        data: the data sets.
        loss: the loss.
        optimizer: the optimizer and its schedule.
        steps: total number of optimizer steps.
        validation: interval and options of validation.
        log: logs of the run.
    """

    task: Literal["segmentation"] = "segmentation"
    model: ModelSection = ModelSection()
    data: DataSection
    loss: LossSection = LossSection()
    optimizer: OptimizerSection = OptimizerSection()
    steps: PositiveInt
    validation: ValidationSection = ValidationSection()
    log: PictureLogSection = PictureLogSection()
