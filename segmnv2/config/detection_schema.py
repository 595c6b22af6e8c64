"""Schema of detection experiments."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from segmnv2.config.experiment import BaseExperiment
from segmnv2.config.network_section import BackboneName, FreezableSection
from segmnv2.config.training_sections import EpochValidationSection, PhotometricSection
from segmnv2.section import (
    FilePath,
    Natural,
    NaturalFloat,
    OutputStride,
    PositiveFloat,
    PositiveInt,
    Section,
    Share,
)


class DetectorSection(FreezableSection):
    """The model and its initial weights; see :class:`FreezableSection` for the other keys.

    Attributes:
        detector: kind of the detector.
        name: name of a backbone, such as ``mobilenet_v2``.
        size: input size in pixels: the side of SSDLite's square input, or the shorter side of Faster R-CNN's; ``null``
            for the defaults, 320 and 800.
        output_stride: output stride of the backbone.
        options: numeric arguments of torchvision's class, such as ``{score_thresh: 0.01}``.
    """

    detector: Literal["ssdlite", "faster_rcnn"] = "ssdlite"
    name: BackboneName = "mobilenet_v2"
    size: Annotated[int, Field(ge=32)] | None = None
    output_stride: OutputStride = 32
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _options_of_the_detector(self) -> DetectorSection:
        from segmnv2.detection.families import detector_options

        allowed = detector_options(self.detector)
        unknown = [key for key in self.options if key not in allowed]
        if unknown:
            raise ValueError(f"options: {self.detector} has no {', '.join(unknown)}; it has {', '.join(allowed)}")
        for key, value in self.options.items():
            if not isinstance(value, int | float):
                raise ValueError(f"options: {key} is {value!r}; give a number")
        return self


class CocoSource(Section):
    """COCO's boxes.

    Attributes:
        root: folder with ``annotations/`` and the folders of images.
        split: ``train2017`` or ``val2017``.
    """

    kind: Literal["coco"]
    root: FilePath
    split: str


class CocoFileSource(Section):
    """Your own boxes, in COCO's format.

    Attributes:
        images: folder of the images; file names in the annotations are relative to it.
        annotations: JSON file of instances; categories are numbered from 1.
    """

    kind: Literal["coco_file"]
    images: FilePath
    annotations: FilePath


BoxSource = Annotated[CocoSource | CocoFileSource, Field(discriminator="kind")]


class DetectionDataSection(Section):
    """Training and validation data, and the augmentation.

    Attributes:
        train: the training set; images without a box are not used.
        val: the validation set, with the same categories.
        flip: probability of a mirror image.
        iou_crop: whether to use SSD's augmentation, a random crop that overlaps a box by a random minimum.
        photometric: color augmentation; ``null`` for none.
        batch_size: images per step, in all processes together.
        num_workers: worker processes; 0 reads in the training process. Results do not depend on it.
    """

    train: BoxSource
    val: BoxSource
    flip: Share = 0.5
    iou_crop: bool = False
    photometric: PhotometricSection | None = None
    batch_size: PositiveInt = 24
    num_workers: Natural = 2


class DetectionOptimizerSection(Section):
    """Stochastic gradient descent with momentum.

    Attributes:
        lr: learning rate of the first step after the warm-up.
        momentum: momentum of the gradient.
        weight_decay: weight decay of linear layers and of all convolutions that are not depthwise.
        schedule: ``cosine`` lowers the learning rate to 0 along half a cosine. ``steps`` multiplies it by a factor at
            milestones.
        milestones: epochs at which the learning rate falls, for ``steps``.
        factor: factor that multiplies the learning rate at each milestone.
        warmup_steps: steps at the start in which the learning rate rises linearly to its full value.
        accumulate: parts in which a batch is computed, one after another, to save memory.
        clip_norm: largest norm of the gradient; a larger gradient is scaled down to it. ``null`` for no limit.
    """

    lr: PositiveFloat = 0.02
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NaturalFloat = 4e-5
    schedule: Literal["cosine", "steps"] = "cosine"
    milestones: Annotated[tuple[PositiveFloat, ...], Field(strict=False)] = ()
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    warmup_steps: Natural = 0
    accumulate: PositiveInt = 1
    clip_norm: PositiveFloat | None = None

    @model_validator(mode="after")
    def _milestones_of_steps(self) -> DetectionOptimizerSection:
        if (self.schedule == "steps") != bool(self.milestones):
            raise ValueError(
                "schedule 'steps' needs milestones, and 'cosine' allows none; change schedule or milestones"
            )
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones {list(self.milestones)} are not in order; give the earliest epoch first")
        return self


class DetectionExperiment(BaseExperiment):
    """A detection experiment; see :class:`BaseExperiment` for the keys of all tasks.

    The loss is that of torchvision's detector.

    Attributes:
        task: ``detection``.
        model: the model.
        data: the data sets.
        optimizer: the optimizer and its schedule.
        epochs: number of passes over the training set.
        validation: interval and size of validation, which measures COCO's average precision.
        compile: must be false, because tensor shapes in a detector depend on the boxes that it finds.
    """

    task: Literal["detection"]
    model: DetectorSection = Field(default_factory=DetectorSection)  # its check imports detectors
    data: DetectionDataSection
    optimizer: DetectionOptimizerSection = DetectionOptimizerSection()
    epochs: PositiveFloat
    validation: EpochValidationSection = EpochValidationSection()
    compile: Literal[False] = False
