"""Schema of an experiment in detection."""

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
    """The network and what it starts from; see :class:`FreezableSection` for the rest.

    Attributes:
        detector: kind of the detector.
        name: a backbone's name, such as ``mobilenet_v2``.
        size: input size in pixels: the side of SSDLite's square, or the shorter side of Faster R-CNN's image; ``null``
            for 320 and 800.
        output_stride: output stride of the backbone.
        options: numbers for arguments of torchvision's class, such as ``{score_thresh: 0.01}``.
    """

    detector: Literal["ssdlite", "faster_rcnn"] = "ssdlite"
    name: BackboneName = "mobilenet_v2"
    size: Annotated[int, Field(ge=32)] | None = None
    output_stride: OutputStride = 32
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def backbone_name(self) -> str:
        """Name of the backbone."""
        return self.name

    @model_validator(mode="after")
    def _options_of_the_detector(self) -> DetectorSection:
        from segmnv2.detection.families import detector_options

        allowed = detector_options(self.detector)
        unknown = [key for key in self.options if key not in allowed]
        if unknown:
            raise ValueError(f"options: {self.detector} has no {', '.join(unknown)}; it has {', '.join(allowed)}")
        odd = [key for key, value in self.options.items() if not isinstance(value, int | float)]
        if odd:
            raise ValueError(f"options: {odd[0]} is {self.options[odd[0]]!r}; give a number")
        return self


class CocoSource(Section):
    """COCO's boxes.

    Attributes:
        root: folder with ``annotations/`` and the images' folders.
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
        train: the training set; images without a box are left out.
        val: the validation set, of the same categories.
        flip: chance of a mirror image.
        iou_crop: SSD's augmentation: a random crop with a random smallest overlap with a box.
        photometric: changes of color; ``null`` for none.
        batch_size: images per step, of all processes together.
        num_workers: reading processes; 0 reads in the training process. Results do not depend on it.
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
        schedule: ``cosine``: the rate falls to 0 along half a cosine; ``steps``: it falls by a factor at milestones.
        milestones: epochs at which the rate falls, for ``steps``.
        factor: factor that multiplies the rate at each milestone.
        warmup_steps: number of first steps, in which the rate rises linearly to its full value.
        accumulate: number of parts in which a batch is computed, one after another, to save memory.
        clip_norm: largest norm of the gradient; longer ones are shortened to it. ``null`` for no limit.
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
            raise ValueError("milestones belong to the schedule 'steps', which needs some; give both or neither")
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones {list(self.milestones)} do not rise; give the first epoch first")
        return self


class DetectionExperiment(BaseExperiment):
    """An experiment in detection; see :class:`BaseExperiment` for what every task has.

    The loss is the detector's own: torchvision's.

    Attributes:
        task: ``detection``.
        model: the network.
        data: the data sets.
        optimizer: the optimizer and its schedule.
        epochs: how often each training image is used, on average.
        validation: when the model is validated, by COCO's average precision.
        compile: must be false, because shapes in detectors depend on the boxes that they find.
    """

    task: Literal["detection"]
    model: DetectorSection = Field(default_factory=DetectorSection)  # its check imports detectors
    data: DetectionDataSection
    optimizer: DetectionOptimizerSection = DetectionOptimizerSection()
    epochs: PositiveFloat
    validation: EpochValidationSection = EpochValidationSection()
    compile: Literal[False] = False
